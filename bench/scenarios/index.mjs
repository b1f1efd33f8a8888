// The scenarios, in the order of runs and tables.

import ready from './ready.mjs';
import probes from './probes.mjs';
import notified from './notified.mjs';
import call from './call.mjs';
import commandLine from './command-line.mjs';
import { burst50, burst500 } from './burst.mjs';
import exit from './exit.mjs';
import recovery from './recovery.mjs';
import stop from './stop.mjs';
import { many200, many1000 } from './many.mjs';
import output from './output.mjs';
import getters from './getters.mjs';
import sampling from './sampling.mjs';
import load from './load.mjs';
import metrics from './metrics.mjs';
import logFile from './log-file.mjs';
import held from './held.mjs';
import { armed, idleStops, onDemand } from './on-demand.mjs';
import upgrade from './upgrade.mjs';
import groups from './groups.mjs';
import { attach, crowd, host } from './sharing.mjs';

export const scenarios = [
  ready,
  probes,
  notified,
  call,
  burst50,
  burst500,
  exit,
  recovery,
  stop,
  many200,
  many1000,
  output,
  getters,
  sampling,
  load,
  logFile,
  metrics,
  held,
  onDemand,
  armed,
  idleStops,
  upgrade,
  groups,
  attach,
  host,
  crowd,
  commandLine,
];
