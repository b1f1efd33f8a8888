// The targets of issue 4. Beside each target: the physical limit or the other contestants in the same run.

import { show } from './stats.mjs';

/** `scenarios`: scenario → contestant → metric → summary. A target without a measurement is left out. */
export function judge(scenarios) {
  const figure = (scenario, contestant, metric) => scenarios[scenario]?.contestants[contestant]?.figures[metric];
  const median = (...path) => figure(...path)?.median;
  const beside = (unit, ...list) =>
    list
      .filter(([, value]) => value !== undefined)
      .map(([what, value]) => `${what} ${show(value)} ${unit}`)
      .join(', ');
  const ratio = (above, below) => (above !== undefined && below !== undefined ? above / below : undefined);
  const difference = (from, what) => (from !== undefined && what !== undefined ? from - what : undefined);
  const sum = (one, other) => difference(one, other === undefined ? undefined : -other);
  const cpu = (count) => median(`many${count}`, 'ally', 'cpu');
  const slowestGetter = Math.max(...Object.values(scenarios.getters?.contestants.ally.figures ?? {}).map(({ median: ns }) => ns));

  const wanted = [
    [
      'listen → resolved, median',
      median('ready', 'ally', 'resolved'),
      2,
      'ms',
      beside('ms', ['limit', median('ready', 'limit', 'resolved')], ['by hand', median('ready', 'byhand', 'resolved')]),
    ],
    [
      'listen → resolved, max',
      figure('ready', 'ally', 'resolved')?.max,
      10,
      'ms',
      beside('ms', ['limit', figure('ready', 'limit', 'resolved')?.max]),
    ],
    ...[
      ['http', 'HTTP answer over the socket → resolved, median', 2],
      ['output', 'line → resolved, median', 2],
      ['tcp', 'listen at a port → resolved, tcp, median', 10],
      ['httpPort', 'listen at a port → resolved, http, median', 10],
    ].map(([contestant, what, limit]) => [
      what,
      median('probes', contestant, 'resolved'),
      limit,
      'ms',
      beside(
        'ms',
        ['model of pitchfork', median('probes', 'pitchfork', 'resolved')],
        ['model of process-compose', median('probes', 'processCompose', 'resolved')],
      ),
    ]),
    [
      'READY=1 → resolved, median',
      median('notified', 'ally', 'resolved'),
      2,
      'ms',
      beside(
        'ms',
        ['a file read every 10 ms', median('notified', 'byhand', 'resolved')],
        ['every 500 ms', median('notified', 'polled', 'resolved')],
      ),
    ],
    [
      'worst stall, 50 starts, 1 GiB of heap',
      median('burst50', 'ally', 'stall'),
      5,
      'ms',
      beside(
        'ms',
        ['idle loop', median('burst50', 'idle', 'stall')],
        ['idle beside as many spawns', median('burst50', 'beside', 'stall')],
        ['child_process', median('burst50', 'byhand', 'stall')],
      ),
    ],
    [
      '50 starts, all ready',
      median('burst50', 'ally', 'ready'),
      300,
      'ms',
      beside('ms', ['posix_spawn alone', median('burst50', 'limit', 'ready')], ['child_process', median('burst50', 'byhand', 'ready')]),
    ],
    [
      'metricsText of 200 daemons',
      median('metrics', 'ally', 'text'),
      3,
      'ms',
      beside('ms', ['a copy of the text', median('metrics', 'limit', 'copy')]),
    ],
    ['kill -9 → seen', median('exit', 'ally', 'event'), 5, 'ms', beside('ms', ['child_process', median('exit', 'byhand', 'event')])],
    [
      'kill -9 → listening again, of runit',
      ratio(median('recovery', 'ally', 'recovery'), median('recovery', 'runit', 'recovery')),
      1,
      'times',
      beside(
        'ms',
        ['ally', median('recovery', 'ally', 'recovery')],
        ['beside 200 others', median('recovery', 'crowd', 'recovery')],
        ['runit', median('recovery', 'runit', 'recovery')],
        ['pm2', median('recovery', 'pm2', 'recovery')],
        ['s6', median('recovery', 's6', 'recovery')],
      ),
    ],
    [
      'stop of a willing daemon',
      median('stop', 'ally', 'stop'),
      1.5,
      'ms',
      beside('ms', ['child_process', median('stop', 'byhand', 'stop')], ['pm2', median('stop', 'pm2', 'stop')]),
    ],
    ['200 daemons: CPU of the owner', cpu(200), 15, 'ms/s', beside('ms/s', ['by hand', median('many200', 'byhand', 'cpu')])],
    ['200 daemons: loop busy', median('many200', 'ally', 'loop'), 0.1, '%', beside('%', ['by hand', median('many200', 'byhand', 'loop')])],
    ['CPU for 1,000 daemons, of that for 200', ratio(cpu(1000), cpu(200)), 5.5, 'times', beside('ms/s', ['1,000', cpu(1000)])],
    [
      'memory of the owner per daemon (of 1,000)',
      median('many1000', 'ally', 'memory'),
      40,
      'KB',
      beside('KB', ['guardian and keepers', median('many1000', 'ally', 'helpers')], ['by hand', median('many1000', 'byhand', 'memory')]),
    ],
    [
      'captured output: how much slower than cat',
      ratio(median('output', 'limit', 'speed'), median('output', 'ally', 'speed')),
      1.3,
      'times',
      beside(
        'MB/s',
        ['ally', median('output', 'ally', 'speed')],
        ['cat', median('output', 'limit', 'speed')],
        ['child_process', median('output', 'byhand', 'speed')],
      ),
    ],
    [
      'captured output: loop busy',
      median('output', 'ally', 'loop'),
      10,
      'ms',
      beside('ms', ['child_process', median('output', 'byhand', 'loop')]),
    ],
    [
      'captured output: growth',
      median('output', 'ally', 'growth'),
      8,
      'MB',
      beside('MB', ['child_process', median('output', 'byhand', 'growth')]),
    ],
    [
      'the slowest getter',
      Number.isFinite(slowestGetter) ? slowestGetter : undefined,
      1_000,
      'ns',
      beside('ns', ['isRunning', median('getters', 'ally', 'isRunning')], ['a Map', median('getters', 'limit', 'get')]),
    ],
    [
      '200 daemons sampled each second: CPU of the owner',
      median('sampling', 'ally', 'cpu'),
      20,
      'ms/s',
      beside(
        'ms/s',
        ['nobody asks', median('sampling', 'idle', 'cpu')],
        ['25 with 8 workers each', median('sampling', 'workers', 'cpu')],
        ['by hand', median('sampling', 'byhand', 'cpu')],
      ),
    ],
    [
      'load',
      median('load', 'ally', 'require'),
      5,
      'ms',
      beside('ms', ['execa', median('load', 'execa', 'require')], ['pm2', median('load', 'pm2', 'require')]),
    ],
    [
      'size of ally.node',
      median('load', 'ally', 'addon'),
      // Of them 350 KB are the way to the host of shared daemons.
      2_750,
      'KB',
      beside('KB', ['ally-guardian', median('load', 'ally', 'guardian')]),
    ],
    [
      'log file: how much slower than cat',
      ratio(median('logFile', 'limit', 'speed'), median('logFile', 'ally', 'speed')),
      1 / 0.6,
      'times',
      beside(
        'MB/s',
        ['ally', median('logFile', 'ally', 'speed')],
        ['ally, rotating', median('logFile', 'rotating', 'speed')],
        ['cat', median('logFile', 'limit', 'speed')],
        ['child_process', median('logFile', 'byhand', 'speed')],
      ),
    ],
    [
      'log file: loop busy for 512 MiB',
      median('logFile', 'ally', 'loop'),
      10,
      'ms',
      beside('ms', ['child_process', median('logFile', 'byhand', 'loop')]),
    ],
    [
      'first connection → answer, beyond a start and a request',
      difference(median('onDemand', 'ally', 'answered'), median('onDemand', 'started', 'answered')),
      5,
      'ms',
      beside('ms', ['the request', median('onDemand', 'ally', 'answered')], ['a start and it', median('onDemand', 'started', 'answered')]),
    ],
    [
      '100 armed plugins: CPU of the owner',
      median('armed', 'ally', 'cpu'),
      1,
      'ms/s',
      beside('', ['processes', median('armed', 'ally', 'processes')]),
    ],
    ...['terminates', 'drains'].map((daemon) => [
      `connections at idle stops, a daemon that ${daemon}: refused or unanswered`,
      sum(figure('idleStops', daemon, 'refused')?.max, figure('idleStops', daemon, 'unanswered')?.max),
      0,
      '',
      beside('', ['connections', median('idleStops', daemon, 'connections')], ['idle stops', median('idleStops', daemon, 'stops')]),
    ]),
    ...[
      ['held', 'refused', 'held socket, 150 kills and 150 restarts: refused'],
      ['upgrades', 'refused', 'held socket, 50 upgrades: refused'],
      ['upgrades', 'broken', 'held socket, 50 upgrades: lost'],
      ['ownUpgrades', 'refused', "the daemon's own socket, 50 upgrades: refused"],
    ].map(([contestant, metric, what]) => [
      what,
      figure('held', contestant, metric)?.max,
      0,
      '',
      beside('', ['answered', median('held', contestant, 'answered')], ['its own socket, kills', median('held', 'own', 'refused')]),
    ]),
    ...['held', 'own'].map((contestant) => [
      `upgrade beyond a start and a stop, ${contestant} socket`,
      median('upgrade', contestant, 'added'),
      5,
      'ms',
      beside('ms', ...['upgrade', 'start', 'stop'].map((metric) => [metric, median('upgrade', contestant, metric)])),
    ]),
    [
      '100 daemons in 10 layers, of the slowest path',
      ratio(median('groups', 'ally', 'group'), median('groups', 'ally', 'delays')),
      1.3,
      'times',
      beside(
        'ms',
        ['group', median('groups', 'ally', 'group')],
        ['slowest path', median('groups', 'ally', 'path')],
        ["daemons' own time", median('groups', 'ally', 'delays')],
      ),
    ],
    [
      'attach to a running shared daemon, median',
      median('attach', 'attach', 'start'),
      2,
      'ms',
      beside('ms', ['exclusive start', median('attach', 'exclusive', 'start')]),
    ],
    [
      'first start of a shared daemon beyond an exclusive one',
      difference(median('attach', 'shared', 'start'), median('attach', 'exclusive', 'start')),
      1,
      'ms',
      beside('ms', ['shared', median('attach', 'shared', 'start')], ['exclusive', median('attach', 'exclusive', 'start')]),
    ],
    ['host of 10 daemons with 10 sessions: Pss', median('host', 'ally', 'memory'), 5, 'MB', ''],
    ['host: wake-ups while nothing happens', median('host', 'ally', 'wakeUps'), 0, 'per s', ''],
    [
      '24 programs start one daemon, of one',
      ratio(median('crowd', 'all', 'resolved'), median('crowd', 'one', 'resolved')),
      1.5,
      'times',
      beside('ms', ['24', median('crowd', 'all', 'resolved')], ['one', median('crowd', 'one', 'resolved')]),
    ],
    [
      'ally-daemons ps beyond node -e 0',
      median('commandLine', 'ally', 'beyond'),
      25,
      'ms',
      beside('ms', ['ps', median('commandLine', 'ally', 'whole')], ['node -e 0', median('commandLine', 'limit', 'whole')]),
    ],
  ];
  return wanted
    .filter(([, value]) => value !== undefined)
    .map(([what, value, limit, unit, others]) => ({ what, value, limit, unit, met: value <= limit, beside: others }));
}
