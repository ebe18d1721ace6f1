// A queue that runs at most so many tasks at a time, in the order they came.

export class Lane {
  #limit;
  #running = 0;
  #waiting = [];

  constructor(limit) {
    this.#limit = limit;
  }

  /** Runs `task` when there is room; its result. A task whose `signal` has aborted meanwhile is not begun. */
  run(task, signal) {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ task, signal, resolve, reject });
      this.#next();
    });
  }

  #next() {
    while (this.#running < this.#limit && this.#waiting.length > 0) {
      const { task, signal, resolve, reject } = this.#waiting.shift();
      if (signal?.aborted) {
        reject(signal.reason);
        continue;
      }
      this.#running += 1;
      task()
        .then(resolve, reject)
        .finally(() => {
          this.#running -= 1;
          this.#next();
        });
    }
  }
}
