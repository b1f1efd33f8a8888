'use strict';

const { PYTHON } = require('./python');

module.exports = function globalSetup() {
  process.env.TEST_PYTHON = PYTHON;
};
