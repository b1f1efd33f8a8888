'use strict';

/** Whether the stream may get colours: a terminal that knows them, and no NO_COLOR (https://no-color.org). */
const hasColour = (stream, env = process.env) => Boolean(stream.isTTY) && env.TERM !== 'dumb' && !env.NO_COLOR;

module.exports = { hasColour };
