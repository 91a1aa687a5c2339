// EIP-6963: every wallet in the browser announces itself; nobody fights over `window.ethereum`.

export interface Eip1193Provider {
  request: (args: { method: string; params?: unknown }) => Promise<unknown>;
  on?: (event: string, listener: (value: never) => void) => unknown;
  removeListener?: (event: string, listener: (value: never) => void) => unknown;
}

export interface AnnouncedWallet {
  /** Reverse domain name: the same wallet on the next visit. */
  rdns: string;
  name: string;
  /** A data: URL, or none: anything else would be a request to a third party. */
  icon: string | null;
  provider: Eip1193Provider;
}

interface Announcement {
  info?: { uuid?: unknown; rdns?: unknown; name?: unknown; icon?: unknown };
  provider?: Eip1193Provider;
}

export function discoverWallets(target: Window, found: (wallets: AnnouncedWallet[]) => void): () => void {
  const wallets = new Map<string, AnnouncedWallet>();
  const listen = (event: Event) => {
    const wallet = readAnnouncement((event as CustomEvent<Announcement>).detail);
    if (wallet === null || wallets.has(wallet.rdns)) return;
    wallets.set(wallet.rdns, wallet);
    found([...wallets.values()]);
  };
  target.addEventListener('eip6963:announceProvider', listen);
  target.dispatchEvent(new Event('eip6963:requestProvider'));
  return () => target.removeEventListener('eip6963:announceProvider', listen);
}

export function readAnnouncement(detail: Announcement | null | undefined): AnnouncedWallet | null {
  const { info, provider } = detail ?? {};
  if (typeof provider?.request !== 'function') return null;
  if (typeof info?.rdns !== 'string' || typeof info.name !== 'string') return null;
  const icon = typeof info.icon === 'string' && info.icon.startsWith('data:image/') ? info.icon : null;
  return { rdns: info.rdns.slice(0, 200), name: info.name.slice(0, 60), icon, provider };
}
