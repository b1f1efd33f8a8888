'use strict';

// A program on a pseudo-terminal, and the screen that its user sees.

const path = require('node:path');
const { spawn } = require('node:child_process');
const { PYTHON } = require('./python');

const ESC = '\u001b';
/** An escape sequence or a character. A sequence is whole, because a frame is one write. */
const PART = new RegExp(`${ESC}\\[[?\\d;]*[A-Za-z]|[\\s\\S]`, 'gu');

/** The screen of a terminal without colours: it knows the sequences of examples/top, and throws at any other. */
class Screen {
  /** Also the lines that have left the screen at its top. */
  lines = [''];
  cursorVisible = true;
  #row = 0;
  #column = 0;

  constructor(rows, columns) {
    this.rows = rows;
    this.columns = columns;
  }

  write(text) {
    for (const [part] of text.matchAll(PART)) {
      if (part.startsWith(ESC)) this.#obey(part);
      else this.#put(part);
    }
  }

  #obey(sequence) {
    const command = sequence.slice(ESC.length + 1);
    const top = Math.max(0, this.lines.length - this.rows);
    if (/^\d+A$/.test(command)) this.#row = Math.max(top, this.#row - Number.parseInt(command, 10));
    else if (command === 'K') this.lines[this.#row] = this.lines[this.#row].slice(0, this.#column);
    else if (command === 'J') this.lines.splice(this.#row, this.lines.length, this.lines[this.#row].slice(0, this.#column));
    else if (command === '?25l') this.cursorVisible = false;
    else if (command === '?25h') this.cursorVisible = true;
    else if (!/^\d*m$/.test(command)) throw new Error(`unexpected sequence ${JSON.stringify(sequence)}`);
  }

  #put(character) {
    if (character === '\r') this.#column = 0;
    else if (character === '\n') this.#down();
    else {
      if (this.#column === this.columns) {
        this.#down();
        this.#column = 0;
      }
      const line = this.lines[this.#row].padEnd(this.#column);
      this.lines[this.#row] = line.slice(0, this.#column) + character + line.slice(this.#column + 1);
      this.#column++;
    }
  }

  #down() {
    this.#row++;
    if (this.#row === this.lines.length) this.lines.push('');
  }
}

/** A program on a terminal of `rows` and `columns`. `output`: all that it has written. */
function onTerminal(world, program, { rows = 24, columns = 100, env = {} } = {}) {
  const child = spawn(PYTHON, ['-S', '-E', '-B', path.join(__dirname, 'on-terminal.py'), rows, columns, ...program].map(String), {
    env: { ...process.env, TERM: 'xterm', TEST_WORLD: world.dir, TMPDIR: world.dir, NO_COLOR: '1', ...env },
  });
  world.programs.push(child);
  const run = { output: '', errors: '', isOver: false };
  child.stdout.setEncoding('utf8').on('data', (text) => {
    run.output += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text) => {
    run.errors += text;
  });
  /** How the program ended: `{ code, settingsKept }`. */
  run.ended = new Promise((resolve, reject) => {
    child.on('close', () => {
      run.isOver = true;
      try {
        resolve(JSON.parse(run.errors));
      } catch {
        reject(new Error(run.errors));
      }
    });
  });
  run.ended.catch(() => {}); // For a test that has failed before it waits for the end.
  run.type = (text) => child.stdin.write(`type ${JSON.stringify(text)}\n`);
  run.resize = (newRows, newColumns) => child.stdin.write(`size ${newRows} ${newColumns}\n`);
  run.signal = (number) => child.stdin.write(`signal ${number}\n`);
  run.screen = () => {
    const screen = new Screen(rows, columns);
    screen.write(run.output);
    return screen;
  };
  return run;
}

module.exports = { onTerminal };
