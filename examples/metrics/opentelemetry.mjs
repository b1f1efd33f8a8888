// Feeds observable instruments of OpenTelemetry. `meter` comes from the caller's SDK: metrics.getMeter('daemons').

/** Observes all daemons of a manager, at each collection of the SDK. Returns a function that ends it. */
export function observeDaemons(meter, manager) {
  const memory = meter.createObservableGauge('ally.daemon.memory', { unit: 'By' });
  const cpu = meter.createObservableGauge('ally.daemon.cpu.utilization', { unit: '1' });
  const restarts = meter.createObservableCounter('ally.daemon.restarts', { unit: '{restart}' });
  const observe = (result) => {
    for (const { pluginName: plugin, restarts: count, resources } of manager.getMetrics()) {
      result.observe(restarts, count, { plugin });
      if (!resources) continue; // Not running, or not sampled yet.
      result.observe(memory, resources.memory, { plugin });
      result.observe(cpu, resources.cpuPercent / 100, { plugin });
    }
  };
  meter.addBatchObservableCallback(observe, [memory, cpu, restarts]);
  return () => meter.removeBatchObservableCallback(observe, [memory, cpu, restarts]);
}
