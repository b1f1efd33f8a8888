const CODES = { dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 };

/** Prints lines of time, name and text. */
export class Timeline {
  #begin = performance.now();
  #colour = Boolean(process.stdout.isTTY) && !process.env.NO_COLOR;
  #width;

  constructor(names) {
    this.#width = Math.max(...names.map((name) => name.length));
    // If the reader has closed the pipe (`| head`), the demo goes on.
    process.stdout.on('error', (error) => {
      if (error.code !== 'EPIPE') throw error;
    });
  }

  get elapsed() {
    return performance.now() - this.#begin;
  }

  print(name, text, colour) {
    const time = this.#paint('dim', `${Math.round(this.elapsed)} ms`.padStart(9));
    console.log(`${time}  ${this.#paint('cyan', name.padEnd(this.#width))}  ${this.#paint(colour, text)}`);
  }

  /** Prints the last line. */
  conclude(text, colour) {
    console.log(`\n${this.#paint(colour, text)}`);
  }

  #paint(colour, text) {
    return this.#colour && colour ? `\u001b[${CODES[colour]}m${text}\u001b[0m` : text;
  }
}
