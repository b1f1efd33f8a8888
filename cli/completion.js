'use strict';

const { UsageError } = require('./problems.js');
const { print } = require('./stdout.js');
const { VERBS, optionsOf } = require('./verbs.js');

const SHELLS = { bash, zsh, fish };

/** `plugins` in place of a shell prints the names of all plugins, for the scripts themselves. */
function completion({ operands: [shell], envsDir }) {
  if (shell === 'plugins') {
    const names = require('./plugins.js').pluginNames(envsDir, { missing: [] });
    print(names.map((name) => `${name}\n`).join(''));
    return;
  }
  if (!Object.hasOwn(SHELLS, shell)) throw new UsageError(`'${shell}' must be one of bash, zsh, fish`, 'completion');
  print(SHELLS[shell]());
}

const flags = (verb) => optionsOf(verb).flatMap(({ name, short }) => (short === undefined ? [`--${name}`] : [`-${short}`, `--${name}`]));
const verbs = () => VERBS.map(({ name }) => name);
/** The verbs whose operands are of this kind. */
const completing = (kind) => VERBS.filter(({ completes }) => completes === kind).map(({ name }) => name);

function bash() {
  return `_ally_daemons() {
  local word=\${COMP_WORDS[COMP_CWORD]} verb= at
  for ((at = 1; at < COMP_CWORD; at++)); do
    case \${COMP_WORDS[at]} in
      --envs-dir) ((at++)) ;;
      -*) ;;
      *) verb=\${COMP_WORDS[at]}; break ;;
    esac
  done
  COMPREPLY=()
  if [[ \${COMP_WORDS[COMP_CWORD - 1]} == --envs-dir ]]; then
    COMPREPLY=($(compgen -d -- "$word"))
  elif [[ -z $verb ]]; then
    COMPREPLY=($(compgen -W '${[...verbs(), '--help', '--version', '--envs-dir'].join(' ')}' -- "$word"))
  elif [[ $word == -* ]]; then
    case $verb in
${VERBS.map((verb) => `      ${verb.name}) COMPREPLY=($(compgen -W '${flags(verb).join(' ')}' -- "$word")) ;;`).join('\n')}
    esac
  else
    case $verb in
      ${completing('plugins').join('|')}) COMPREPLY=($(compgen -W "$(ally-daemons completion plugins 2>/dev/null)" -- "$word")) ;;
      ${completing('folders').join('|')}) COMPREPLY=($(compgen -d -- "$word")) ;;
      ${completing('shells').join('|')}) COMPREPLY=($(compgen -W 'bash zsh fish' -- "$word")) ;;
    esac
  fi
}
complete -F _ally_daemons ally-daemons
`;
}

function zsh() {
  const quoted = (text) => text.replaceAll("'", "'\\''").replaceAll('[', '\\[').replaceAll(']', '\\]').replaceAll(':', '\\:');
  const option = ({ name, about, value }) =>
    `'--${name}[${quoted(about)}]${value === undefined ? '' : `:${value}:${value === 'FOLDER' ? '_files -/' : ''}`}'`;
  const operand = {
    plugins: "'*:plugin:_ally_daemons_plugins'",
    folders: "'1:folder:_files -/'",
    shells: "'1:shell:(bash zsh fish)'",
    nothing: '',
  };
  return `#compdef ally-daemons
_ally_daemons_plugins() {
  local -a plugins
  plugins=(\${(f)"$(ally-daemons completion plugins 2>/dev/null)"})
  compadd -a plugins
}
_ally_daemons() {
  local -a verbs
  verbs=(
${VERBS.map(({ name, about }) => `    '${name}:${quoted(about)}'`).join('\n')}
  )
  if (( CURRENT == 2 )); then
    _describe verb verbs
    return
  fi
  local verb=$words[2]
  words=("\${(@)words[2,-1]}")
  (( CURRENT-- ))
  case $verb in
${VERBS.map((verb) => `    ${verb.name}) _arguments ${[...optionsOf(verb).map(option), operand[verb.completes]].join(' ').trimEnd()} ;;`).join('\n')}
  esac
}
compdef _ally_daemons ally-daemons
`;
}

function fish() {
  const quoted = (text) => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  const within = (names) => quoted(`__fish_seen_subcommand_from ${names.join(' ')}`);
  const lines = ['complete -c ally-daemons -f'];
  for (const { name, about } of VERBS) lines.push(`complete -c ally-daemons -n __fish_use_subcommand -a ${name} -d ${quoted(about)}`);
  for (const verb of VERBS) {
    for (const { name, short, value, about } of optionsOf(verb)) {
      const takes = value === undefined ? '' : value === 'FOLDER' ? " -x -a '(__fish_complete_directories)'" : ' -x';
      const letter = short === undefined ? '' : ` -s ${short}`;
      lines.push(`complete -c ally-daemons -n ${within([verb.name])} -l ${name}${letter}${takes} -d ${quoted(about)}`);
    }
  }
  lines.push(
    `complete -c ally-daemons -n ${within(completing('plugins'))} -a '(ally-daemons completion plugins 2>/dev/null)'`,
    `complete -c ally-daemons -n ${within(completing('folders'))} -a '(__fish_complete_directories)'`,
    `complete -c ally-daemons -n ${within(completing('shells'))} -a 'bash zsh fish'`,
  );
  return `${lines.join('\n')}\n`;
}

module.exports = { completion };
