// Serves /metrics for Prometheus: node examples/metrics/serve.mjs [PORT]

import { createServer } from 'node:http';
import { manager } from './manager.mjs';

const server = createServer((request, response) => {
  if (request.url !== '/metrics') return response.writeHead(404).end();
  // A scraper that reads OpenMetrics says so.
  const open = request.headers.accept?.includes('application/openmetrics-text');
  const type = open ? 'application/openmetrics-text; version=1.0.0' : 'text/plain; version=0.0.4';
  response.writeHead(200, { 'content-type': `${type}; charset=utf-8` });
  response.end(manager.metricsText({ format: open ? 'openmetrics' : 'prometheus' }));
});
server.listen(Number(process.argv[2] ?? 9464), () => console.log(`http://localhost:${server.address().port}/metrics`));
