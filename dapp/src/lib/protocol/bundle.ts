// tar.gz, as `tallystick.bundle` packs and unpacks it: plain files below one directory, nothing else.

export interface BundleFile {
  name: string;
  content: Uint8Array<ArrayBuffer>;
}

const BLOCK = 512;
const MOST_FILES = 10_000;

export function isSafeName(name: string): boolean {
  const parts = name.split('/');
  return (
    name !== '' &&
    name.length <= 100 &&
    !/[\0\\]/.test(name) &&
    parts.every((part) => part !== '' && part !== '.' && part !== '..')
  );
}

/** Sorted by name, without times, owners or modes of this machine: the same files are the same bytes. */
export function tar(files: readonly BundleFile[]): Uint8Array<ArrayBuffer> {
  const sorted = [...files].sort((one, other) => (one.name < other.name ? -1 : 1));
  const size = sorted.reduce((sum, file) => sum + BLOCK + roundUp(file.content.length), 2 * BLOCK);
  const archive = new Uint8Array(size);
  let at = 0;
  for (const file of sorted) {
    archive.set(header(file), at);
    archive.set(file.content, at + BLOCK);
    at += BLOCK + roundUp(file.content.length);
  }
  return archive;
}

/** Refuses what is no plain file with a safe name; long names (PAX) are understood. */
export function untar(archive: Uint8Array<ArrayBuffer>): BundleFile[] {
  const files: BundleFile[] = [];
  let at = 0;
  let longName: string | null = null;
  while (at + BLOCK <= archive.length && files.length <= MOST_FILES) {
    const head = archive.subarray(at, at + BLOCK);
    if (head.every((byte) => byte === 0)) return files;
    const size = parseInt(text(head.subarray(124, 136)).trim(), 8);
    const kind = String.fromCharCode(head[156] ?? 0);
    const content = archive.slice(at + BLOCK, at + BLOCK + size);
    if (!Number.isSafeInteger(size) || size < 0 || content.length !== size)
      throw new Error('The archive is cut short.');
    at += BLOCK + roundUp(size);
    if (kind === 'x' || kind === 'g') {
      longName = /\d+ path=([^\n]+)\n/.exec(new TextDecoder().decode(content))?.[1] ?? longName;
      continue;
    }
    const prefix = text(head.subarray(345, 500));
    const short = text(head.subarray(0, 100));
    const name: string = (longName ?? (prefix === '' ? short : `${prefix}/${short}`)).replace(/^\.\//, '');
    longName = null;
    if (kind === '5') continue;
    if (kind !== '0' && kind !== '\0') throw new Error(`${name} is no plain file.`);
    if (!isSafeName(name)) throw new Error(`${name} leads out of the directory.`);
    files.push({ name, content });
  }
  return files;
}

export async function gzip(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  return through(bytes, new CompressionStream('gzip'));
}

/** Stops at `mostBytes`, whatever the archive claims. */
export async function gunzip(
  bytes: Uint8Array<ArrayBuffer>,
  mostBytes: number,
): Promise<Uint8Array<ArrayBuffer>> {
  return through(bytes, new DecompressionStream('gzip'), mostBytes);
}

async function through(
  bytes: Uint8Array<ArrayBuffer>,
  stream: CompressionStream | DecompressionStream,
  mostBytes = Infinity,
): Promise<Uint8Array<ArrayBuffer>> {
  const reader = new Blob([bytes]).stream().pipeThrough(stream).getReader();
  const pieces: Uint8Array[] = [];
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    length += value.length;
    if (length > mostBytes) throw new Error(`It unpacks to more than ${mostBytes.toString()} bytes.`);
    pieces.push(value);
  }
  const whole = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

function header({ name, content }: BundleFile): Uint8Array {
  if (!isSafeName(name)) throw new Error(`${name} cannot be the name of an input.`);
  const head = new Uint8Array(BLOCK);
  const encoder = new TextEncoder();
  const put = (at: number, value: string) => head.set(encoder.encode(value), at);
  const encodedName = encoder.encode(name);
  if (encodedName.length > 100) throw new Error(`The name ${name} is too long.`);
  head.set(encodedName, 0);
  put(100, '0000644\0');
  put(108, '0000000\0');
  put(116, '0000000\0');
  put(124, `${content.length.toString(8).padStart(11, '0')}\0`);
  put(136, '00000000000\0');
  put(148, '        ');
  put(156, '0');
  put(257, 'ustar\x0000');
  const sum = head.reduce((total, byte) => total + byte, 0);
  put(148, `${sum.toString(8).padStart(6, '0')}\0 `);
  return head;
}

function roundUp(size: number): number {
  return Math.ceil(size / BLOCK) * BLOCK;
}

function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end === -1 ? bytes : bytes.subarray(0, end));
}
