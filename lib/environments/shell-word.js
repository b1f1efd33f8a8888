'use strict';

/**
 * Replaces each `{key}` of a shell command by the value of that key, quoted as its place in the command needs it: a path may
 * contain spaces, and Ally's plugins write both `{pip} install` and `"{pip}" install`.
 */
function fillIn(command, values) {
  let quote = '';
  let filled = '';
  for (let index = 0; index < command.length; index++) {
    const key = Object.keys(values).find((each) => command.startsWith(`{${each}}`, index));
    if (key !== undefined) {
      filled += quoted(values[key], quote);
      index += key.length + 1;
      continue;
    }
    const character = command[index];
    filled += character;
    if (character === '\\' && quote !== "'") filled += command[++index] ?? '';
    else if (character === quote) quote = '';
    else if (quote === '' && (character === '"' || character === "'")) quote = character;
  }
  return filled;
}

function quoted(value, quote) {
  if (quote === '"') return value.replace(/["$`\\]/g, '\\$&');
  if (quote === "'") return value.replaceAll("'", "'\\''");
  return /^[\w/.:@%+,=-]+$/.test(value) ? value : `'${value.replaceAll("'", "'\\''")}'`;
}

module.exports = { fillIn };
