'use strict';

const { cut, textWidth } = require('./table.js');

const HIDE_CURSOR = '\u001b[?25l';
const SHOW_CURSOR = '\u001b[?25h';
const CLEAR_LINE_END = '\u001b[K';
const CLEAR_BELOW = '\u001b[J';

/** Whether lines can be redrawn in place there. */
function isLive(stream, env) {
  return Boolean(stream.isTTY) && env.TERM !== 'dumb';
}

/** Lines at the bottom of a terminal that are redrawn in place. What stood above them stays. */
class LiveScreen {
  #stream;
  #lines = [];
  #isOpen = false;

  constructor(stream) {
    this.#stream = stream;
  }

  get width() {
    // 0 where the terminal does not tell, as on a serial line.
    return this.#stream.columns || 80;
  }

  /** Draws over the lines of the last call. Those that the terminal has no rows for are counted in the last row. */
  draw(lines) {
    const opening = this.#isOpen ? '' : HIDE_CURSOR;
    const shown = this.#fitting(lines);
    const text = shown.map((line) => `${line}${CLEAR_LINE_END}\n`).join('');
    // A single write, so that the terminal shows no half frame. It begins at the left, because ^C may stand there.
    this.#stream.write(`${opening}\r${this.#up()}${text}${CLEAR_BELOW}`);
    this.#isOpen = true;
    this.#lines = shown;
  }

  /** Leaves the last lines standing, with the cursor visible below them. The next `draw` begins there. */
  close() {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#lines = [];
    this.#stream.write(SHOW_CURSOR);
  }

  #fitting(lines) {
    // The cursor takes the last row.
    const rows = Math.max(1, (this.#stream.rows || 24) - 1);
    if (lines.length <= rows) return lines;
    const kept = lines.slice(0, rows - 1);
    return [...kept, cut(`… ${lines.length - kept.length} more`, this.width)];
  }

  /** To the first row of the last frame. A narrower terminal has since wrapped its lines into several rows. */
  #up() {
    const rows = this.#lines.reduce((sum, line) => sum + Math.max(1, Math.ceil(textWidth(line) / this.width)), 0);
    return rows > 0 ? `\u001b[${rows}A` : '';
  }
}

/** Ctrl-Z gives the shell the terminal with its cursor. After SIGCONT the next `draw` begins below what the shell has written. */
function suspendable(screen) {
  const suspend = () => {
    screen.close();
    // Without a listener the signal has its default action, which leaves the decision to the kernel: without a shell that could
    // continue this process, the signal is ignored.
    process.kill(process.pid, 'SIGTSTP');
  };
  process.once('SIGTSTP', suspend).on('SIGCONT', () => process.off('SIGTSTP', suspend).once('SIGTSTP', suspend));
}

module.exports = { LiveScreen, isLive, suspendable };
