/** Waiting with an end to it: what takes longer than it may is a failure with a name. */

/** Settles as `promise` does; `what` completes "… did not happen within N ms". */
export async function within(ms, what, promise) {
  let timer;
  const deadline = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not happen within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, deadline]);
  } finally {
    clearTimeout(timer);
  }
}

/** The first event that `matches`. To be called before whatever causes it. */
export async function nextEvent(emitter, event, ms, what, matches) {
  let listener;
  const seen = new Promise((resolve) => {
    listener = (payload) => {
      if (matches(payload)) resolve(payload);
    };
    emitter.on(event, listener);
  });
  try {
    return await within(ms, what, seen);
  } finally {
    emitter.off(event, listener);
  }
}

/** For what no event tells: looks again every few milliseconds until `look` finds nothing, or time is up. */
export async function untilNothing(ms, look) {
  const end = performance.now() + ms;
  for (;;) {
    const found = await look();
    if (found.length === 0 || performance.now() > end) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
