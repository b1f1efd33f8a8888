'use strict';

module.exports = {
  testEnvironment: 'node',
  // Only the tests: crawling target/ costs seconds.
  roots: ['<rootDir>/__tests__'],
  testMatch: ['<rootDir>/__tests__/**/*.test.js'],
  transform: {},
  testTimeout: 30_000,
  // Most tests wait for a daemon rather than compute, so two cores carry more than two of them.
  maxWorkers: 3,
  globalSetup: '<rootDir>/__tests__/helpers/global-setup.js',
};
