'use strict';

const { VERBS, optionsOf } = require('./verbs.js');

/** The help of a verb, or of the program. */
function helpText(verb) {
  return verb === null ? ofProgram() : ofVerb(verb);
}

function ofProgram() {
  const lines = [
    'Usage: ally-daemons VERB [OPTION...] [OPERAND...]',
    '',
    'Shows and stops the daemons of plugins, without the help of their owners.',
    '',
    ...columns(VERBS.map(({ name, operands, about }) => [`${name} ${operands}`.trim(), about])),
    '',
    'Options of each verb:',
    ...columns([...optionsOf({ options: [] }).map(optionRow), ['-V, --version', 'show the version']]),
    '',
    'Examples of a verb: ally-daemons VERB --help',
    'Exit code: 0 done, 1 it failed (one sentence on stderr), 2 wrong usage',
  ];
  return `${lines.join('\n')}\n`;
}

function ofVerb(verb) {
  const lines = [
    `Usage: ally-daemons ${verb.name} [OPTION...] ${verb.operands}`.trimEnd(),
    '',
    `${verb.about}.`,
    verb.text,
    '',
    'Options:',
    ...columns(optionsOf(verb).map(optionRow)),
    '',
    'Examples:',
    ...verb.examples.flatMap(([command, effect]) => [`  # ${effect}`, `  ${command}`]),
  ];
  return `${lines.join('\n')}\n`;
}

const optionRow = ({ name, short, value, about }) => [
  `${short === undefined ? '    ' : `-${short}, `}--${name}${value === undefined ? '' : ` ${value}`}`,
  about,
];

function columns(rows) {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`);
}

module.exports = { helpText };
