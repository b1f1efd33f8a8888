'use strict';

const SECRET_ARGUMENT = 'hunter2-argument';

const SECRET_VALUE = 'hunter2-value';

const without =
  (...keys) =>
  (config) => {
    const copy = { ...config };
    for (const key of keys) delete copy[key];
    return copy;
  };

const healthcheck = { interval: 1_000, timeout: 1_000, retries: 3 };

/** What an error says after the words with which every such error begins. */
const problemOf = ({ message }) => message.replace(/^Invalid configuration( for background process '.*')?: /s, '');

/** The error names that field and says what it must be. `field` may also be the whole sentence. */
function expectProblem(error, field) {
  const problem = problemOf(error);
  const begins = ['must ', 'is required and must ', 'is required: '].some((words) => problem.startsWith(`${field} ${words}`));
  expect({ problem, names: begins || (field.includes(' must ') && problem === field) ? field : undefined }).toEqual({
    problem,
    names: field,
  });
}

module.exports = { SECRET_ARGUMENT, SECRET_VALUE, expectProblem, healthcheck, problemOf, without };
