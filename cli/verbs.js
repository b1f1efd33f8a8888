'use strict';
// The verbs: what the parser, the help and the shell completion know about them.

const ENVS_DIR = { name: 'envs-dir', type: 'string', value: 'FOLDER', about: 'the folder of all plugins (default: ~/.ally/plugin-envs)' };
const JSON_OPTION = { name: 'json', type: 'boolean', about: 'print JSON, for programs' };
const HELP = { name: 'help', short: 'h', type: 'boolean', about: 'show this help' };
const COMMON = [ENVS_DIR, JSON_OPTION, HELP];

/**
 * `operands`: the words of the usage. `least`, `most`: how many there may be. `completes`: what a shell offers for them. `run`
 * requires the module of the verb.
 */
const VERBS = [
  {
    name: 'ps',
    about: 'Show the daemons of all plugins',
    operands: '[NAME...]',
    least: 0,
    most: Number.POSITIVE_INFINITY,
    completes: 'plugins',
    options: [{ name: 'watch', short: 'w', type: 'boolean', about: 'redraw once a second, until Ctrl-C' }],
    text: 'Reads files and the kernel. No owner is asked, so the answer also comes if an owner hangs. What can\'t be known from outside is "-".',
    examples: [
      ['ally-daemons ps', 'all plugins with a record below the default folder'],
      ['ally-daemons ps --watch search', 'one plugin, redrawn in place'],
      ['ally-daemons ps --json | jq ".daemons[].pid"', 'the pids'],
    ],
    run: () => require('./ps.js').ps,
  },
  {
    name: 'logs',
    about: 'Show the log file of a plugin',
    operands: 'NAME',
    least: 1,
    most: 1,
    completes: 'plugins',
    options: [
      { name: 'lines', short: 'n', type: 'string', value: 'N', about: 'only the last N lines (default: all that are kept)' },
      { name: 'follow', short: 'f', type: 'boolean', about: 'go on with each new line, until Ctrl-C' },
    ],
    text: 'Reads `logs.file` of the last start, and its older files. Without `logs.file`, output is kept by the owner only.',
    examples: [
      ['ally-daemons logs search -n 20', 'the last 20 lines'],
      ['ally-daemons logs search -n 0 -f', 'new lines only'],
    ],
    run: () => require('./logs.js').logs,
  },
  {
    name: 'stop',
    about: 'Stop a shared daemon, what a dead owner left, or with --force the daemon of a living one',
    operands: '[NAME...]',
    least: 0,
    most: Number.POSITIVE_INFINITY,
    completes: 'plugins',
    options: [
      { name: 'force', type: 'boolean', about: 'also the daemon of a living owner, which is told' },
      { name: 'all', type: 'boolean', about: 'all shared daemons with their host, also one of another version' },
    ],
    text: 'Asks the host of a shared daemon, which stops it for all sessions. Otherwise takes the lock of the plugin first, then ends the whole tree: stop signal, grace period, SIGKILL. Without --force an exclusive daemon with a living owner is left alone.',
    examples: [
      ['ally-daemons stop search', 'end what is left of search'],
      ['ally-daemons stop search notes', 'both at the same time'],
      ['ally-daemons stop search --force', 'end the daemon of a living owner as well'],
    ],
    run: () => require('./stop.js').stop,
  },
  {
    name: 'restart',
    about: 'Restart a shared daemon',
    operands: 'NAME...',
    least: 1,
    most: Number.POSITIVE_INFINITY,
    completes: 'plugins',
    options: [],
    text: 'Only the owner can restart an exclusive daemon.',
    examples: [['ally-daemons restart search', 'restart it for all sessions']],
    run: () => require('./restart.js').restart,
  },
  {
    name: 'run',
    about: 'Run the daemon of a plugin in the foreground',
    operands: 'FOLDER',
    least: 1,
    most: 1,
    completes: 'folders',
    options: [{ name: 'watch', short: 'w', type: 'boolean', about: 'upgrade the daemon when a file of the folder changes' }],
    text: 'Reads FOLDER/plugin.json. Shows output, states, failed health checks and restarts. Ctrl-C stops the daemon; a second Ctrl-C kills it.',
    examples: [
      ['ally-daemons run .', 'the plugin of this folder'],
      ['ally-daemons run plugins/search --watch', 'with an upgrade after each change'],
    ],
    run: () => require('./run.js').run,
  },
  {
    name: 'doctor',
    about: 'Look for problems of the system and of the plugins',
    operands: '',
    least: 0,
    most: 0,
    completes: 'nothing',
    options: [{ name: 'fix', type: 'boolean', about: 'remove files of daemons that are proven dead' }],
    text: 'A line for each check: ok, warning or problem, what was seen, and the command that mends it. The exit code is 1 if there is a problem.',
    examples: [
      ['ally-daemons doctor', 'look only'],
      ['ally-daemons doctor --fix', 'remove stale pid files and sockets'],
    ],
    run: () => require('./doctor.js').doctor,
  },
  {
    name: 'completion',
    about: 'Print a completion script for a shell',
    operands: 'bash|zsh|fish',
    least: 1,
    most: 1,
    completes: 'shells',
    options: [],
    text: 'The names of plugins are completed too.',
    examples: [
      ['eval "$(ally-daemons completion bash)"', 'in ~/.bashrc'],
      ['eval "$(ally-daemons completion zsh)"', 'in ~/.zshrc, after compinit'],
      ['ally-daemons completion fish | source', 'in ~/.config/fish/config.fish'],
    ],
    run: () => require('./completion.js').completion,
  },
];

const optionsOf = (verb) => [...verb.options, ...COMMON];
const findVerb = (name) => VERBS.find((verb) => verb.name === name);

module.exports = { COMMON, VERBS, findVerb, optionsOf };
