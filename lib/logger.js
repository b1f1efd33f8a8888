'use strict';

/** Whether this logger reads what is logged at debug. One that doesn't say so does. */
function wantsDebug(logger) {
  try {
    return logger !== undefined && Boolean(logger.isLevelEnabled?.('debug') ?? true);
  } catch {
    return true;
  }
}

/** Hands a log entry to the caller's logger. `fields`: names and values in turn. */
function writeEntry(logger, { level, text, fields }) {
  const details = {};
  for (let index = 0; index < fields.length; index += 2)
    details[fields[index] === 'plugin' ? 'pluginName' : fields[index]] = fields[index + 1];
  logger?.[level === 'trace' ? 'debug' : level](text, details);
}

module.exports = { wantsDebug, writeEntry };
