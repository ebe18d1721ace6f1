// Waiting that a signal can end: for a time to pass, for an event.

/** Resolves when `begin` calls what it is given; rejects when `signal` aborts, and calls what `begin` returned. */
function wait(begin, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const undo = begin(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    });
    function stop() {
      undo();
      reject(signal.reason);
    }
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/** Resolves after `ms` milliseconds; rejects when `signal` aborts. */
export function pause(ms, signal) {
  return wait((done) => {
    const timer = setTimeout(done, ms);
    return () => clearTimeout(timer);
  }, signal);
}

/** Resolves when `target` fires `event`; rejects when `signal` aborts. */
export function until(target, event, signal) {
  return wait((done) => {
    target.addEventListener(event, done, { once: true });
    return () => target.removeEventListener(event, done);
  }, signal);
}
