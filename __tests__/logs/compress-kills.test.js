'use strict';

// The log process is killed while it compresses an older file, again and again. ALLY_KILLS=50 kills as often as that.

const fs = require('node:fs');
const { descriptors, everyProcess, signal, target } = require('../helpers/proc');
const { testOnLinux } = require('../helpers/needs');
const { sleep, until } = require('../helpers/until');
const { useWorld } = require('../helpers/use-world');
const { countLines, lastLine } = require('./numbered');

const KILLS = Number(process.env.ALLY_KILLS ?? 3);
const MIB = 2 ** 20;
const world = useWorld();

testOnLinux(
  'logs.compress: a log process killed while it compresses loses no line, and the next one heals',
  async () => {
    const file = world.path('plugin.log');
    const half = world.path('.plugin.log.1.gz.new');
    const logs = { file, maxSize: 8 * MIB, maxFiles: 1_000, compress: true };
    const manager = world.manager();
    await manager.startProcess(world.config('plugin', ['prints-bursts.py', 9], { logs }));
    const pid = manager.getPid('plugin');
    const burst = Math.trunc(Math.trunc((9 * MIB) / 100) / 100) * 100;
    const logProcesses = () =>
      everyProcess().filter((each) => each.name === 'ally-log' && descriptors(each.pid).some((fd) => target(each.pid, fd) === file));
    let printed = 0;
    let halfWay = 0;
    const print = async () => {
      process.kill(pid, 'SIGUSR1');
      printed += burst;
      await until(() => lastLine(file).startsWith(`${pid} out ${printed - 1} `), 20_000, 'the burst is in the file');
    };
    // Nothing is on its way when the log process is killed, so nothing may be lost. On a busy machine every kill may miss
    // the compression: then there are more, until one was half-way.
    for (let kill = 0; kill < KILLS || (halfWay === 0 && kill < KILLS + 20); kill++) {
      await print();
      const [logProcess] = await until(() => logProcesses().length === 1 && logProcesses());
      await sleep(Math.random() * 30);
      if (fs.existsSync(half)) halfWay += 1;
      signal(logProcess, 'SIGKILL');
      await until(() => logProcesses().some((other) => other.pid !== logProcess.pid), 5_000, 'another log process runs');
    }
    expect(halfWay).toBeGreaterThan(0);
    await print();
    // The rotation of the last burst leaves nothing uncompressed.
    const plain = () => fs.readdirSync(world.dir).filter((name) => /\.log\.\d+$|\.new$/.test(name));
    await until(() => plain().length === 0, 20_000, 'every older file is compressed');
    await manager.stopProcess('plugin');
    expect(countLines(file, { markers: true }).get(`${pid} out`)).toBe(printed);
  },
  120_000 + KILLS * 5_000,
);
