'use strict';

// Faults of the system, put in one at a time: each ends in a clear error or in a slower path that works, and the
// manager goes on. strace makes system calls fail; where it is missing, those tests are skipped and say so.
// Here: files and folders, and what a dead owner left in them.

const fs = require('node:fs');
const path = require('node:path');
const { useWorld } = require('./helpers/world');
const { alive, descendants, identify, signal } = require('./helpers/processes');
const { until } = require('./helpers/until');
const { message, setting } = require('./fixtures/faults/setting');
const { SOMEBODY, as, inject, testWith } = require('./fixtures/faults/tools');

const world = useWorld();
const { obedient, config, goesOn, others, thread, between } = setting(world);

describe('what a dead owner left', () => {
  /** Killed with all that stood between it and its daemon: what is left of the tree has nobody. */
  async function orphans() {
    const marker = world.path('family');
    const owner = world.owner('starts.js', { configs: [config('plugin', ['family.py', marker, 'stubborn', 'grouped'])] });
    const leader = identify((await owner.says('ready')).plugin);
    const doomed = [identify(owner.pid), ...between(owner, leader)];
    const family = Object.values(await world.family(marker));
    for (const name of ['SIGSTOP', 'SIGKILL']) for (const process of doomed) signal(process, name);
    await until(() => ![...doomed, leader].some(alive));
    await owner.exited;
    expect(family.every(alive)).toBe(true);
    return family;
  }

  async function ready() {
    const owner = obedient();
    await goesOn(owner, 'warm');
    return owner;
  }

  testWith('strace')('is stopped without pidfds', async () => {
    const [left, owner] = [await orphans(), await ready()];
    const fault = await inject(world, await thread(owner), ['pidfd_open:error=ENOSYS']);
    expect(await owner.asks('startProcess', config())).toEqual({});
    expect(left.filter(alive)).toEqual([]);
    await fault.stop();
    expect(fault.injected()).toBeGreaterThanOrEqual(2);
  });

  testWith('strace')('is stopped without descriptors for it', async () => {
    const [left, owner] = [await orphans(), await ready()];
    const fault = await inject(world, await thread(owner), ['pidfd_open:error=EMFILE:when=1']);
    expect(await owner.asks('startProcess', config())).toEqual({});
    expect(left.filter(alive)).toEqual([]);
    await fault.stop();
  });

  testWith('strace')('is not forgotten by a start that cannot read its identity', async () => {
    const [left, owner] = [await orphans(), await ready()];
    world.finally(() => left.forEach((process) => signal(process, 'SIGKILL')));
    const fault = await inject(world, await thread(owner), ['openat:error=EMFILE:when=4']);
    await owner.asks('startProcess', config());
    expect(fault.calls().find((line) => line.includes('INJECTED'))).toContain('daemon.id');
    await fault.stop();
    await owner.asks('stopProcess', 'plugin');
    await goesOn(owner);
    expect(left.filter(alive)).toEqual([]);
  });

  testWith('strace')('is not forgotten by a start that cannot tell whether it is of this boot', async () => {
    const [left, owner] = [await orphans(), await ready()];
    world.finally(() => left.forEach((process) => signal(process, 'SIGKILL')));
    const identity = path.join(world.folder('plugin'), 'daemon.id');
    const record = fs.readFileSync(identity, 'utf8');
    const fault = await inject(world, await thread(owner), ['openat:error=EMFILE'], { file: '/proc/sys/kernel/random/boot_id' });
    expect((await owner.asks('startProcess', config())).error).toEqual(message('ERR_IO', 'boot_id', 'EMFILE'));
    expect(fs.existsSync(identity) && fs.readFileSync(identity, 'utf8')).toBe(record);
    expect(left.every(alive)).toBe(true);
    await fault.stop();
    expect(fault.injected()).toBe(1);
    await goesOn(owner);
    expect(left.filter(alive)).toEqual([]);
  });

  testWith('strace')('that refuses to die is named, and its identity stays', async () => {
    const [left, owner] = [await orphans(), await ready()];
    const fault = await inject(world, await thread(owner), ['pidfd_send_signal:error=EPERM']);
    const { error } = await owner.asks('startProcess', config('plugin', ['willing.py'], { shutdownGracePeriod: 50 }));
    expect(error.code).toBe('ERR_STOP_FAILED');
    for (const { pid } of left) expect(error.message).toContain(String(pid));
    expect(fs.existsSync(path.join(world.folder('plugin'), 'daemon.id'))).toBe(true);
    await fault.stop();
    await goesOn(owner);
    expect(left.filter(alive)).toEqual([]);
  });
});

describe('a file system of sixteen pages', () => {
  /** An owner that sees one at `envsDir`, in a namespace of its own; it goes with the owner. */
  async function small(order) {
    fs.mkdirSync(world.envsDir, { mode: 0o700 });
    const mount = 'mount -t tmpfs -o size=64k,mode=700 tmpfs "$0" && exec "$@"';
    const owner = obedient(order, { before: ['unshare', '-m', '/bin/sh', '-c', mount, world.envsDir] });
    const filler = path.join(world.envsDir, 'filler');
    return { owner, leave: (pages) => owner.asks('write', filler, (16 - pages) * 4096), clear: () => owner.asks('remove', filler), filler };
  }
  const outside = () => ({ socketPath: world.path('s') });

  testWith('namespaces of its own').each([
    [0, 'daemon.lock'],
    [1, 'daemon.id'],
    [2, 'daemon.pid'],
  ])('with %d free: no %s, nothing left running, and no half of a file', async (pages, name) => {
    const { owner, leave, clear } = await small();
    expect(await leave(pages)).toEqual({});
    const { error } = await owner.asks('startProcess', config('plugin', ['willing.py'], outside()));
    expect(error).toEqual(message('ERR_IO', world.folder('plugin'), name, 'ENOSPC'));
    expect(others(owner)).toEqual([]);
    expect((await owner.asks('list', world.folder('plugin'))).value).toEqual(['daemon.lock']);
    await clear();
    await goesOn(owner, 'plugin', outside());
  });

  testWith('namespaces of its own')('that is read-only', async () => {
    const { owner } = await small();
    const remount = async (how) => expect(await owner.asks('run', 'mount', '-o', `remount,${how}`, world.envsDir)).toEqual({ value: '' });
    await remount('ro');
    expect((await owner.asks('startProcess', config('plugin', ['willing.py'], outside()))).error).toEqual(
      message('ERR_IO', world.folder('plugin'), 'EROFS'),
    );
    expect(others(owner)).toEqual([]);
    await remount('rw');
    await goesOn(owner, 'plugin', outside());
    await remount('ro');
    expect((await owner.asks('startProcess', config('plugin', ['willing.py'], outside()))).error).toEqual(
      message('ERR_IO', 'daemon.lock', 'EROFS'),
    );
    await remount('rw');
    await goesOn(owner, 'plugin', outside());
  });

  testWith('namespaces of its own')('that has no place for the folders above it either', async () => {
    const { owner } = await small({ envsDir: path.join(world.envsDir, 'a', 'b') });
    await owner.asks('run', 'mount', '-o', 'remount,ro', world.envsDir);
    expect((await owner.asks('startProcess', config('plugin', ['willing.py'], outside()))).error).toEqual(
      message('ERR_IO', path.join(world.envsDir, 'a', 'b'), 'EROFS'),
    );
  });
});

describe('the disk is full at a restart', () => {
  testWith('strace')('it is tried again, and works once there is room', async () => {
    const owner = obedient();
    expect(
      await owner.asks(
        'startProcess',
        config('plugin', ['willing.py'], {
          restart: { delay: 10, backoff: 'constant', maxAttempts: 1_000, window: { limit: 10_000, period: 1_000 } },
        }),
      ),
    ).toEqual({});
    const first = identify((await owner.asks('getPid', 'plugin')).value);
    const fault = await inject(world, await thread(owner), ['write:error=ENOSPC'], {
      file: path.join(world.folder('plugin'), '.daemon.pid.new'),
    });
    signal(first, 'SIGKILL');
    await until(async () => {
      const { value } = await owner.asks('getProcessInfo', 'plugin');
      return value.restartAttempts >= 3 && value.lastError.includes('ENOSPC');
    });
    await fault.stop();
    await owner.asks('reached', 'plugin', 'running');
    expect(fault.injected()).toBeGreaterThanOrEqual(2);
    const { value: pid } = await owner.asks('getPid', 'plugin');
    expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${pid}\n`);
    expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
    expect(others(owner)).toEqual([]);
  });
});

describe('the home of the files', () => {
  testWith('another user that can load the package')('is made below HOME, for nobody else', async () => {
    const home = world.path('home');
    const owner = obedient({ late: true }, { env: { HOME: home } });
    expect(await owner.asks('make')).toEqual({});
    await goesOn(owner, 'plugin', { socketPath: world.path('s') });
    const folder = path.join(home, '.ally', 'plugin-envs', 'plugin');
    expect(fs.readdirSync(folder)).toEqual(['daemon.lock']);
    for (let made = folder; made !== world.dir; made = path.dirname(made))
      expect([made, fs.statSync(made).mode & 0o777]).toEqual([made, 0o700]);
  });

  testWith('another user that can load the package')('is asked for where neither HOME nor the user database tells it', async () => {
    const owner = obedient({ late: true }, { before: [...as(SOMEBODY), 'env', '-u', 'HOME'] });
    const { error } = await owner.asks('make');
    expect(error).toMatchObject({ isError: true, code: 'ERR_INVALID_CONFIG', message: expect.stringContaining('envsDir') });
  });

  test("is the user's own where HOME is empty", async () => {
    // Where exactly, the manifest's test says: this one shall leave nothing there.
    expect(await obedient({ late: true }, { env: { HOME: '' } }).asks('make')).toEqual({});
  });

  test('is not a relative HOME', async () => {
    const owner = obedient({ late: true }, { env: { HOME: 'relative' } });
    expect((await owner.asks('make')).error).toMatchObject({
      isError: true,
      code: 'ERR_INVALID_CONFIG',
      message: expect.stringContaining('HOME'),
    });
  });

  testWith('another user that can load the package')('without any HOME can be told', async () => {
    fs.chmodSync(world.dir, 0o777);
    const owner = obedient({ late: true }, { before: [...as(SOMEBODY), 'env', '-u', 'HOME'] });
    expect(await owner.asks('make', { envsDir: world.envsDir })).toEqual({});
    fs.chmodSync(world.pluginPath, 0o777);
    const serve = `process.umask(0); require('net').createServer((c) => c.destroy()).listen(process.env.SOCKET_PATH); setTimeout(() => {}, 60_000)`;
    await goesOn(owner, 'plugin', { command: process.execPath, args: ['-e', serve] });
  });

  const precious = (file) => {
    const { uid, mode, ino } = fs.lstatSync(file);
    return { uid, mode, ino, files: fs.readdirSync(file) };
  };

  testWith('root')("that another user owns: the plugin's folder is refused and left as it is", async () => {
    const folder = world.makeFolder('plugin');
    fs.chownSync(folder, Number(SOMEBODY), Number(SOMEBODY));
    const before = precious(folder);
    const owner = obedient();
    const { error } = await owner.asks('startProcess', config('plugin', ['willing.py'], { socketPath: world.path('s') }));
    expect(error).toEqual(message('ERR_IO', folder, SOMEBODY));
    expect(precious(folder)).toEqual(before);
    expect(others(owner)).toEqual([]);
    fs.chownSync(folder, 0, 0);
    await goesOn(owner);
  });

  testWith('root')('that another user owns: the folder above is refused and left as it is', async () => {
    fs.mkdirSync(world.envsDir, { mode: 0o777 });
    fs.chownSync(world.envsDir, Number(SOMEBODY), Number(SOMEBODY));
    const before = precious(world.envsDir);
    const owner = obedient();
    const { error } = await owner.asks('startProcess', config('plugin', ['willing.py'], { socketPath: world.path('s') }));
    expect(error).toEqual(message('ERR_IO', `${world.envsDir}: `, SOMEBODY));
    expect(precious(world.envsDir)).toEqual(before);
    expect(others(owner)).toEqual([]);
    fs.chownSync(world.envsDir, 0, 0);
    await goesOn(owner);
  });

  // Its socket is for everyone, whatever the umask.
  const serves = {
    command: process.execPath,
    args: [
      '-e',
      `
    process.umask(0);
    setTimeout(() => process.exit(9), 60_000);
    require('net').createServer((c) => c.destroy()).listen(process.env.SOCKET_PATH);
  `,
    ],
  };

  async function worksUnderEveryUmask(...before) {
    const envsDir = world.path('two', 'levels');
    const owner = obedient({ envsDir }, { before: [...before, '/bin/sh', '-c', 'umask 0777; exec "$@"', 'sh'] });
    expect(await owner.asks('startProcess', config('plugin', [], { ...serves, socketPath: world.path('s') }))).toEqual({});
    for (const [file, mode] of [
      ['..', 0o700],
      ['.', 0o700],
      ['plugin', 0o700],
      ['plugin/daemon.pid', 0o600],
      ['plugin/daemon.id', 0o600],
      ['plugin/daemon.lock', 0o600],
    ]) {
      expect([file, fs.statSync(path.join(envsDir, file)).mode & 0o777]).toEqual([file, mode]);
    }
    expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
    await goesOn(owner, 'plugin', { ...serves, socketPath: world.path('s') });
  }

  test('is made under a umask that takes everything, two levels deep', () => worksUnderEveryUmask());

  // Whom such a folder keeps out, unlike root.
  testWith('another user that can load the package')('is made under a umask that takes everything, by one who is not root', async () => {
    for (const folder of [world.dir, world.pluginPath]) fs.chmodSync(folder, 0o777);
    await worksUnderEveryUmask(...as(SOMEBODY));
  });

  testWith('another user that can load the package')('that another user owns: nothing can be made there', async () => {
    fs.mkdirSync(world.envsDir, { mode: 0o755 });
    fs.chmodSync(world.dir, 0o777);
    const owner = obedient({}, { before: as(SOMEBODY) });
    const { error } = await owner.asks('startProcess', config('plugin', [], { command: '/bin/true', socketPath: world.path('s') }));
    expect(error).toEqual(message('ERR_IO', world.folder('plugin'), 'EACCES'));
    expect(fs.readdirSync(world.envsDir)).toEqual([]);
  });

  testWith('another user that can load the package')(
    'in which nothing can be removed any more: a stop says what stays, and nothing runs',
    async () => {
      for (const folder of [world.dir, world.pluginPath]) fs.chmodSync(folder, 0o777);
      const owner = obedient({}, { before: as(SOMEBODY) });
      const outside = { ...serves, socketPath: world.path('s') };
      const shut = async () => {
        expect(await owner.asks('startProcess', config('plugin', [], outside))).toEqual({});
        await owner.asks('chmod', world.folder('plugin'), 0o500);
        return identify((await owner.asks('getPid', 'plugin')).value);
      };
      const expectRecord = async (daemon) => {
        expect(alive(daemon)).toBe(false);
        expect((await owner.asks('getState', 'plugin')).value).toBe('stopped');
        expect((await owner.asks('getProcessInfo', 'plugin')).value.lastError).toContain('EACCES');
        expect(fs.readFileSync(world.pidFile('plugin'), 'utf8')).toBe(`${daemon.pid}\n`);
        await owner.asks('chmod', world.folder('plugin'), 0o700);
      };
      const first = await shut();
      expect((await owner.asks('stopProcess', 'plugin')).error).toEqual(message('ERR_IO', 'Failed to stop', 'daemon.id', 'EACCES'));
      await expectRecord(first);
      await goesOn(owner, 'plugin', outside);
      expect(fs.readdirSync(world.folder('plugin'))).toEqual(['daemon.lock']);
      const second = await shut();
      // Which never rejects.
      expect(await owner.asks('stopAllProcesses')).toEqual({});
      await expectRecord(second);
    },
  );

  test('and all in it is ours alone, whatever the umask', async () => {
    for (const [umask, name] of [
      ['0', 'open'],
      ['077', 'shut'],
    ]) {
      const owner = obedient({ envsDir: world.path(name) }, { before: ['/bin/sh', '-c', `umask ${umask}; exec "$@"`, 'sh'] });
      expect(await owner.asks('startProcess', config('plugin', ['willing.py'], { socketPath: world.path(`${name}.sock`) }))).toEqual({});
      const folder = world.path(name, 'plugin');
      for (const [file, mode] of [
        ['', 0o700],
        ['daemon.pid', 0o600],
        ['daemon.id', 0o600],
        ['daemon.lock', 0o600],
      ]) {
        expect([name, file, fs.statSync(path.join(folder, file)).mode & 0o777]).toEqual([name, file, mode]);
      }
      expect(await owner.asks('stopProcess', 'plugin')).toEqual({});
    }
  });
});

describe('what is in the place of a file of ours', () => {
  const FILES = ['daemon.pid', 'daemon.id', 'daemon.lock', '.daemon.pid.new', '.daemon.id.new'];
  const things = {
    'a link to a file': (place, target) => {
      fs.writeFileSync(target, 'precious', { mode: 0o640 });
      fs.symlinkSync(target, place);
    },
    'a link to nowhere': (place, target) => fs.symlinkSync(target, place),
    'a link to a folder': (place, target) => {
      fs.mkdirSync(target);
      fs.symlinkSync(target, place);
    },
    'a link to itself': (place) => fs.symlinkSync(path.basename(place), place),
    'a link to a device': (place) => fs.symlinkSync('/dev/full', place),
    'a hard link to a file': (place, target) => {
      fs.writeFileSync(target, 'precious', { mode: 0o640 });
      fs.linkSync(target, place);
    },
    'a folder': (place) => fs.mkdirSync(place),
    'a pipe': (place) => require('node:child_process').execFileSync('mkfifo', [place]),
  };

  const look = (target) => {
    const found = fs.lstatSync(target, { throwIfNoEntry: false });
    return (
      found && {
        mode: found.mode,
        size: found.size,
        mtime: found.mtimeMs,
        text: found.isFile() ? fs.readFileSync(target, 'utf8') : fs.readdirSync(target),
      }
    );
  };

  test.each(Object.keys(things))('%s is replaced or refused, and never followed', async (kind) => {
    const owner = obedient();
    for (const name of FILES) {
      const [place, target] = [path.join(world.makeFolder('plugin'), name), world.path(`target-${name}`)];
      things[kind](place, target);
      const before = look(target);
      const { error } = await owner.asks('startProcess', config('plugin', ['willing.py'], { socketPath: world.path('s') }));
      if (error) {
        // Which errno, or none, depends on the kind.
        expect({ name, error: { ...error, errno: undefined } }).toEqual({
          name,
          error: message('ERR_IO', name.replace(/^\.|\.new$/g, '')),
        });
        expect({ name, left: others(owner) }).toEqual({ name, left: [] });
      } else {
        expect({ name, file: fs.lstatSync(world.pidFile('plugin')).isFile() }).toEqual({ name, file: true });
      }
      expect({ name, ...(await owner.asks('stopProcess', 'plugin')) }).toEqual({ name });
      expect({ name, target: look(target) }).toEqual({ name, target: before });
      fs.rmSync(world.folder('plugin'), { recursive: true });
    }
    await goesOn(owner);
  });

  test('a lock that is a hard link to a file is refused, and the file keeps what it holds', async () => {
    const owner = obedient();
    const [place, target] = [path.join(world.makeFolder('plugin'), 'daemon.lock'), world.path('target')];
    fs.writeFileSync(target, 'precious', { mode: 0o640 });
    fs.linkSync(target, place);
    const before = look(target);
    const { error } = await owner.asks('startProcess', config());
    expect(error).toEqual(message('ERR_IO', place, 'hard link'));
    expect(look(target)).toEqual(before);
    expect(fs.statSync(place).ino).toBe(fs.statSync(target).ino);
    expect(others(owner)).toEqual([]);
    fs.unlinkSync(target);
    // Now it has one name.
    await goesOn(owner);
  });

  test("a link in the place of the plugin's folder is refused, wherever it leads", async () => {
    const owner = obedient();
    fs.mkdirSync(world.envsDir);
    fs.mkdirSync(world.path('elsewhere'));
    for (const target of [world.path('elsewhere'), world.path('nowhere'), '/dev/null', 'plugin']) {
      fs.symlinkSync(target, world.folder('plugin'));
      const { error } = await owner.asks('startProcess', config('plugin', ['willing.py'], { socketPath: world.path('s') }));
      expect({ target, error }).toEqual({ target, error: message('ERR_IO', world.folder('plugin'), 'link') });
      fs.unlinkSync(world.folder('plugin'));
    }
    expect(fs.readdirSync(world.path('elsewhere'))).toEqual([]);
    expect(fs.existsSync(world.path('nowhere'))).toBe(false);
    await goesOn(owner);
  });
});

describe("another pid namespace's /proc", () => {
  testWith('a pid namespace')('is named by a start, which makes no process', async () => {
    // Without --mount-proc: what is called 1 there is somebody else.
    const owner = obedient({}, { before: ['unshare', '-pf', '--kill-child'] });
    const counter = world.path('starts');
    const { error } = await owner.asks(
      'startProcess',
      config('plugin', [], { command: '/bin/sh', args: ['-c', ': > "$0"; sleep 60', counter] }),
    );
    expect(error).toEqual(message('ERR_IO', '/proc: ', 'namespace'));
    // unshare itself and the owner.
    expect(descendants(owner.pid)).toHaveLength(1);
    expect(fs.existsSync(counter)).toBe(false);
    const { value } = await owner.asks('getProcessInfo', 'plugin');
    expect(value).toMatchObject({ state: 'error' });
    expect(value.lastExit).toBeUndefined();
    expect(fs.existsSync(world.pidFile('plugin'))).toBe(false);
  });
});
