'use strict';

/** Whether the logger reads debug entries. A logger without isLevelEnabled does. */
function wantsDebug(logger) {
  try {
    return logger !== undefined && Boolean(logger.isLevelEnabled?.('debug') ?? true);
  } catch {
    return true;
  }
}

/**
 * A text that console, pino, bunyan and winston's splat would take for a format: a daemon's `50%done` would become `50NaNone`. They
 * format only if further arguments follow. Doubling each % would be wrong for a logger that does not format.
 */
const isFormat = (text) => /%\S/.test(text);

/** Passes a log entry to the caller's logger. `fields`: names and values alternate. They are left out if the text is a format. */
function writeEntry(logger, { level, text, fields }) {
  const method = level === 'trace' ? 'debug' : level;
  if (isFormat(text)) return logger?.[method](text);
  const details = {};
  for (let index = 0; index < fields.length; index += 2)
    details[fields[index] === 'plugin' ? 'pluginName' : fields[index]] = fields[index + 1];
  logger?.[method](text, details);
}

module.exports = { wantsDebug, writeEntry };
