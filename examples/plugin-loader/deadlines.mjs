/** Waits with a deadline. */

/** Settles as `promise`, or rejects at the deadline with "`event` did not happen within N ms". */
export async function within(ms, event, promise) {
  let timer;
  const deadline = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${event} did not happen within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, deadline]);
  } finally {
    clearTimeout(timer);
  }
}

/** Resolves to the first event that `matches`. Call it before the action that causes the event. */
export async function nextEvent(emitter, event, ms, description, matches) {
  let listener;
  const seen = new Promise((resolve) => {
    listener = (payload) => {
      if (matches(payload)) resolve(payload);
    };
    emitter.on(event, listener);
  });
  try {
    return await within(ms, description, seen);
  } finally {
    emitter.off(event, listener);
  }
}

/** Polls `find` until it resolves to an empty list, or to the deadline. Resolves to the last list. */
export async function untilEmpty(ms, find) {
  const end = performance.now() + ms;
  for (;;) {
    const found = await find();
    if (found.length === 0 || performance.now() > end) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
