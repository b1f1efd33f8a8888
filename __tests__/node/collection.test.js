'use strict';

const path = require('node:path');
const { spawnSync } = require('node:child_process');

const program = `
const { BackgroundProcessManager } = require(process.argv[1]);
let collected = 0;
const registry = new FinalizationRegistry(() => collected++);
for (let i = 0; i < 100; i++) registry.register(new BackgroundProcessManager({ envsDir: '/nowhere' }), i);
const end = performance.now() + 10_000;
(function again() {
  gc();
  if (collected < 90 && performance.now() < end) setTimeout(again, 5);
  else console.log(collected);
})();
`;

test('an idle manager is collected: the addon refers to it weakly', () => {
  const root = path.join(__dirname, '..', '..');
  const { stdout, stderr } = spawnSync(process.execPath, ['--expose-gc', '-e', program, root], { encoding: 'utf8' });
  expect(stderr).toBe('');
  expect(Number(stdout)).toBeGreaterThanOrEqual(90);
});
