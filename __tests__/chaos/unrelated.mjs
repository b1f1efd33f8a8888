// An unrelated process. It reports every signal that it gets; the run sends it none.

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGCONT', 'SIGUSR2', 'SIGPIPE']) {
  process.on(signal, () => process.send({ signal }));
}
process.on('disconnect', () => process.exit(0));
setInterval(() => {}, 60_000);
process.send({ ready: true });
