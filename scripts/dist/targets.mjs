// The platforms that have a package of their own, each with the target that rustc knows it by.

export const TARGETS = [
  { suffix: 'linux-x64-gnu', triple: 'x86_64-unknown-linux-gnu', os: 'linux', cpu: 'x64', libc: 'glibc' },
  { suffix: 'linux-x64-musl', triple: 'x86_64-unknown-linux-musl', os: 'linux', cpu: 'x64', libc: 'musl' },
  { suffix: 'linux-arm64-gnu', triple: 'aarch64-unknown-linux-gnu', os: 'linux', cpu: 'arm64', libc: 'glibc' },
  { suffix: 'linux-arm64-musl', triple: 'aarch64-unknown-linux-musl', os: 'linux', cpu: 'arm64', libc: 'musl' },
  { suffix: 'darwin-x64', triple: 'x86_64-apple-darwin', os: 'darwin', cpu: 'x64' },
  { suffix: 'darwin-arm64', triple: 'aarch64-apple-darwin', os: 'darwin', cpu: 'arm64' },
];

/** No addon may need a newer glibc: that of Debian 10, RHEL 8 and the official builds of Node.js 18 and later. */
export const GLIBC = '2.28';

export const packageOf = (name, { suffix }) => `${name}-${suffix}`;

/** The target with this triple or suffix. */
export function targetOf(name) {
  const found = TARGETS.find(({ suffix, triple }) => name === suffix || name === triple);
  if (!found) throw new Error(`${name} has no platform package. Those that have: ${TARGETS.map(({ suffix }) => suffix).join(', ')}`);
  return found;
}

/** The target of the running Node.js. Its report names the version of glibc, which musl has not. */
export function ownTarget() {
  const libc = process.platform === 'linux' ? (process.report.getReport().header.glibcVersionRuntime ? 'glibc' : 'musl') : undefined;
  const found = TARGETS.find((each) => each.os === process.platform && each.cpu === process.arch && each.libc === libc);
  if (!found) throw new Error(`${process.platform}-${process.arch} has no platform package`);
  return found;
}
