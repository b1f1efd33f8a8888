'use strict';

// A registry of npm packages on the loopback address, as far as `npm install` asks: a document for a name, and tarballs.

const crypto = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const { execFileSync } = require('node:child_process');

/** `tarballs`: files that it serves. `manifests`: further packages, of which it knows only package.json. */
async function startRegistry(tarballs, manifests = []) {
  const packages = new Map();
  const add = (manifest, file) => packages.set(manifest.name, { manifest, file });
  for (const manifest of manifests) add(manifest);
  for (const file of tarballs) add(JSON.parse(execFileSync('tar', ['-xzOf', file, 'package/package.json'], { encoding: 'utf8' })), file);
  const asked = [];
  const server = http.createServer(({ url }, response) => {
    const name = decodeURIComponent(url.slice(1));
    asked.push(name);
    const tarball = tarballs.find((file) => name === `-/${path.basename(file)}`);
    if (tarball) return response.end(fs.readFileSync(tarball));
    const found = packages.get(name);
    if (!found) return response.writeHead(404).end('{}');
    return response.setHeader('content-type', 'application/json').end(JSON.stringify(documentOf(found, server.address().port)));
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  return { url: `http://127.0.0.1:${server.address().port}/`, asked, close: () => server.close() };
}

function documentOf({ manifest, file }, port) {
  const { name, version } = manifest;
  const integrity = file && `sha512-${crypto.createHash('sha512').update(fs.readFileSync(file)).digest('base64')}`;
  const tarball = `http://127.0.0.1:${port}/-/${path.basename(file ?? 'nowhere.tgz')}`;
  return { name, 'dist-tags': { latest: version }, versions: { [version]: { ...manifest, dist: { tarball, integrity } } } };
}

module.exports = { startRegistry };
