'use strict';

const { EventEmitter } = require('node:events');
const { BackgroundProcessManager } = require('../..');
const { useWorld } = require('../helpers/use-world');

const world = useWorld();

const METHODS = [
  'startProcess',
  'stopProcess',
  'stopAllProcesses',
  'restartProcess',
  'upgradeProcess',
  'whenRunning',
  'startGroup',
  'stopGroup',
];

/** The rejection of a call that must not throw. */
async function rejection(call) {
  const promise = call();
  expect(promise).toBeInstanceOf(Promise);
  return promise.then(
    () => undefined,
    (error) => error,
  );
}

const detached = (manager, method) => manager[method];

describe.each(METHODS)('%s without its manager', (method) => {
  test.each([
    ['as a plain function', (manager) => detached(manager, method)('plugin')],
    ['as a listener of another emitter', (manager) => Reflect.apply(manager[method], new EventEmitter(), ['SIGTERM', 15])],
    ['of a Proxy of the manager', (manager) => new Proxy(manager, {})[method]('plugin')],
    ['of an object that inherits from the manager', (manager) => Object.create(manager)[method]('plugin')],
    ['of the prototype', () => BackgroundProcessManager.prototype[method]('plugin')],
  ])('is a rejection with ERR_INVALID_CONFIG: %s', async (_, call) => {
    const manager = world.manager();
    const error = await rejection(() => call(manager));
    expect(error).toBeInstanceOf(Error);
    expect(error.code).toBe('ERR_INVALID_CONFIG');
    expect(error.message).toContain(`${method} was called without its manager: write (...args) => manager.${method}(...args)`);
    expect(error.stack).toContain('without-manager.test.js');
  });
});

test('the methods of a subclass, and what it overrides, keep their manager', async () => {
  class Own extends BackgroundProcessManager {
    stopAllProcesses() {
      return super.stopAllProcesses();
    }
  }
  const manager = new Own({ envsDir: world.envsDir });
  await expect(manager.stopAllProcesses()).resolves.toBeUndefined();
});
