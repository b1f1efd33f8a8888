// An unrelated process: reports every signal that reaches it. No part of the run has a reason to send it one.

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGCONT', 'SIGUSR2', 'SIGPIPE']) {
  process.on(signal, () => process.send({ signal }));
}
process.on('disconnect', () => process.exit(0));
setInterval(() => {}, 60_000);
process.send({ ready: true });
