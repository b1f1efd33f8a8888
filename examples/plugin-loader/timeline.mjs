const CODES = { dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 };

/** Lines for a person: when, who, what. */
export class Timeline {
  #begin = performance.now();
  #colour = Boolean(process.stdout.isTTY) && !process.env.NO_COLOR;
  #width;

  constructor(names) {
    this.#width = Math.max(...names.map((name) => name.length));
    // A reader that had enough (`| head`) is no reason to break off halfway.
    process.stdout.on('error', (error) => {
      if (error.code !== 'EPIPE') throw error;
    });
  }

  get elapsed() {
    return performance.now() - this.#begin;
  }

  tell(name, what, colour) {
    const when = this.#paint('dim', `${Math.round(this.elapsed)} ms`.padStart(9));
    console.log(`${when}  ${this.#paint('cyan', name.padEnd(this.#width))}  ${this.#paint(colour, what)}`);
  }

  /** The one line at the end. */
  conclude(what, colour) {
    console.log(`\n${this.#paint(colour, what)}`);
  }

  #paint(colour, text) {
    return this.#colour && colour ? `\u001b[${CODES[colour]}m${text}\u001b[0m` : text;
  }
}
