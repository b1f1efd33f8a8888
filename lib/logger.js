'use strict';

/** Whether the logger reads debug entries. A logger without isLevelEnabled does. */
function wantsDebug(logger) {
  try {
    return logger !== undefined && Boolean(logger.isLevelEnabled?.('debug') ?? true);
  } catch {
    return true;
  }
}

/** Passes a log entry to the caller's logger. `fields`: names and values alternate. */
function writeEntry(logger, { level, text, fields }) {
  const details = {};
  for (let index = 0; index < fields.length; index += 2)
    details[fields[index] === 'plugin' ? 'pluginName' : fields[index]] = fields[index + 1];
  logger?.[level === 'trace' ? 'debug' : level](text, details);
}

module.exports = { wantsDebug, writeEntry };
