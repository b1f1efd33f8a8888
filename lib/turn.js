'use strict';

let turn = 0;
let isCurrent = false;

/**
 * The number of the current turn: of the synchronous code that runs now, until its next microtask. With a promise, because fake
 * timers replace queueMicrotask.
 */
function currentTurn() {
  if (!isCurrent) {
    isCurrent = true;
    turn = (turn + 1) % 2 ** 32;
    Promise.resolve().then(() => {
      isCurrent = false;
    });
  }
  return turn;
}

module.exports = { currentTurn };
