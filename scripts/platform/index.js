'use strict';
// The main file of each platform package. The paths are literals, because tracers and bundlers read this text.

const path = require('node:path');

module.exports = { ...require('./ally.node'), guardian: path.join(__dirname, 'ally-guardian'), version: '0.1.0' };
