// The scenarios, in the order of runs and tables.

import ready from './ready.mjs';
import call from './call.mjs';
import { burst50, burst500 } from './burst.mjs';
import exit from './exit.mjs';
import recovery from './recovery.mjs';
import stop from './stop.mjs';
import { many200, many1000 } from './many.mjs';
import output from './output.mjs';
import getters from './getters.mjs';
import load from './load.mjs';
import logFile from './log-file.mjs';

export const scenarios = [ready, call, burst50, burst500, exit, recovery, stop, many200, many1000, output, getters, load, logFile];
