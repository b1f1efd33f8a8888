'use strict';
// The shell scripts that change an environment. They run as a tree of their own and hold the installer's lock, so that a killed
// program leaves neither an installer nor a half of two installations. Arguments: $1 is the environment's folder.

/** `step` names the command that runs, for the last line of the output of a failed one. */
const BEGIN = `set -eu
env=$1
step=preparation
trap 'code=$?; [ "$code" = 0 ] || printf "%s failed with exit code %s\\n" "$step" "$code" >&2' EXIT
`;

/** Ends the script if another process has made the environment since the caller has read the marker. */
const LEAVE_OTHERS = `found=$(cat -- "$env/.installed" 2>/dev/null || :)
if [ "$found" != "$seen" ]; then
  case $found in *'"status": "ready"'*) exit 0 ;; esac
fi
`;

/** $2: the marker as the caller has seen it, $3: the plugin's name as JSON. The marker is removed before anything else is changed. */
const TAKE_MARKER = `${BEGIN}seen=$2 name=$3
shift 3
mkdir -p -m 700 -- "$env"
${LEAVE_OTHERS}rm -f -- "$env/.installed"
`;

const WRITE_MARKER = `
step='writing .installed'
rm -f -- "$env/.installed.new"
umask 077
printf '{\\n  "name": %s,\\n  "status": "ready",\\n  "installed_at": "%s"\\n}\\n' \\
  "$name" "$(date -u +%Y-%m-%dT%H:%M:%S.000Z)" > "$env/.installed.new"
mv -f -- "$env/.installed.new" "$env/.installed"
`;

/** The plugin's own command, in $command. */
const COMMAND = `
step=install_command
/bin/sh -c "$command"
`;

/**
 * $1: the program, $2: python3 or uv, $3: the file with the dependencies, or empty, $4: install_command, or empty. What an
 * earlier installation has left is removed, because pip takes half of a package for a whole one.
 */
const PYTHON = `${TAKE_MARKER}program=$1 kind=$2 file=$3 command=$4
(cd -- "$env" && rm -rf -- bin include lib lib64 pyvenv.cfg)
if [ "$kind" = uv ]; then
  step='uv venv'
  "$program" venv --allow-existing "$env"
else
  step='python3 -m venv'
  "$program" -m venv "$env"
fi
if [ -n "$command" ]; then${COMMAND}elif [ -n "$file" ]; then
  if [ "$kind" = uv ]; then
    step='uv pip install'
    "$program" pip install --python "$env/bin/python3" -r "$file"
  else
    step='pip install'
    "$env/bin/python3" -m pip install -r "$file"
  fi
fi
step='the look for bin/python3'
[ -x "$env/bin/python3" ]
${WRITE_MARKER}`;

/** $1: npm, $2: the text of package.json, or empty, $3: the folder of its lock file and .npmrc, $4: install_command, or empty. */
const NODE = `${TAKE_MARKER}program=$1 package=$2 from=$3 command=$4
(cd -- "$env" && rm -rf -- node_modules package.json package-lock.json npm-shrinkwrap.json .npmrc)
if [ -n "$package" ]; then
  printf '%s\\n' "$package" > "$env/package.json"
  for name_of_file in package-lock.json npm-shrinkwrap.json .npmrc; do
    if [ -f "$from/$name_of_file" ]; then cp -- "$from/$name_of_file" "$env/$name_of_file"; fi
  done
fi
if [ -n "$command" ]; then${COMMAND}elif [ -n "$package" ]; then
  step='npm install'
  cd -- "$env"
  "$program" install --no-audit --no-fund --prefix "$env"
fi
${WRITE_MARKER}`;

/** $2: the marker as the caller has seen it, $3: a marker that says 'error'. */
const FAIL = `${BEGIN}seen=$2
umask 077
mkdir -p -m 700 -- "$env"
${LEAVE_OTHERS}rm -f -- "$env/.installed.new"
printf '%s\\n' "$3" > "$env/.installed.new"
mv -f -- "$env/.installed.new" "$env/.installed"
`;

/**
 * Removes all but the lock, the record and the sockets of a daemon, and then the folders that are empty. The marker comes first.
 */
const REMOVE = `${BEGIN}[ -d "$env" ] || exit 0
cd -- "$env"
step=removal
rm -f -- .installed
find . -mindepth 1 ! -type d ! -type s ! -path ./daemon.lock ! -path ./daemon.pid ! -path ./daemon.id \\
  ! -path './.daemon.*.new' -exec rm -f -- {} +
find . -depth -mindepth 1 -type d -exec rmdir -- {} + 2>/dev/null || :
cd /
rmdir -- "$env" 2>/dev/null || :
`;

module.exports = { FAIL, NODE, PYTHON, REMOVE };
