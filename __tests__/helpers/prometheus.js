'use strict';

// prometheus_client of PyPI, which `npm test` installs into target/python.

const path = require('node:path');
const { execFileSync } = require('node:child_process');
const { PYTHON } = require('./python');

const PYTHONPATH = path.join(__dirname, '..', '..', 'target', 'python');

const run = (code, input) => execFileSync(PYTHON, ['-c', code], { encoding: 'utf8', input, env: { ...process.env, PYTHONPATH } });

const PARSERS = { openmetrics: 'prometheus_client.openmetrics.parser', prometheus: 'prometheus_client.parser' };

/** The families of a text, by name: `{ type, unit, help, samples }`, each sample as `{ name, labels, value }`. Throws if it is no such text. */
function parse(text, format) {
  const code = `
import json, sys
from ${PARSERS[format]} import text_string_to_metric_families as parse
families = {}
for family in parse(sys.stdin.buffer.read().decode()):
    assert family.name not in families, family.name
    samples = [dict(name=sample.name, labels=sample.labels, value=sample.value) for sample in family.samples]
    families[family.name] = dict(type=family.type, unit=family.unit, help=family.documentation, samples=samples)
print(json.dumps(families))`;
  return JSON.parse(run(code, text));
}

module.exports = { PARSERS, PYTHONPATH, parse, run };
