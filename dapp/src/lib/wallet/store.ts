// Which wallet is connected, as whom, on which chain. One store; React reads it through `useWallet`.

import { getAddress, isAddress, type Address } from 'viem';
import { readPreference, writePreference } from '~/lib/preferences';
import { currentSession, setSession } from '~/lib/session';
import { discoverWallets, type AnnouncedWallet } from './discovery';

export interface WalletState {
  wallets: readonly AnnouncedWallet[];
  connected: AnnouncedWallet | null;
  address: Address | null;
  chainId: number | null;
  connecting: string | null;
}

const NOTHING: WalletState = { wallets: [], connected: null, address: null, chainId: null, connecting: null };

export class WalletStore {
  #state: WalletState = NOTHING;
  #listeners = new Set<() => void>();
  #forget: (() => void) | null = null;

  start(target: Window): void {
    discoverWallets(target, (wallets) => {
      this.#set({ wallets });
      const known = readPreference('wallet');
      const again = wallets.find((wallet) => wallet.rdns === known);
      if (again !== undefined && this.#state.connected === null) void this.#resume(again);
    });
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };
  readonly get = (): WalletState => this.#state;

  /** Asks the wallet for an account; rejects when the person declines. */
  async connect(wallet: AnnouncedWallet): Promise<void> {
    this.#set({ connecting: wallet.rdns });
    try {
      const accounts = await wallet.provider.request({ method: 'eth_requestAccounts' });
      await this.#use(wallet, accounts);
      writePreference('wallet', wallet.rdns);
    } finally {
      this.#set({ connecting: null });
    }
  }

  disconnect(): void {
    this.#forget?.();
    this.#forget = null;
    writePreference('wallet', null);
    setSession(null);
    this.#set({ connected: null, address: null, chainId: null });
  }

  async switchChain(chain: {
    id: number;
    name: string;
    rpcUrl: string | null;
    symbol?: string;
  }): Promise<void> {
    const provider = this.#state.connected?.provider;
    if (provider === undefined) return;
    const chainId = `0x${chain.id.toString(16)}`;
    try {
      await provider.request({ method: 'wallet_switchEthereumChain', params: [{ chainId }] });
    } catch (fault) {
      if (codeOf(fault) !== UNKNOWN_CHAIN || chain.rpcUrl === null) throw fault;
      const nativeCurrency = { name: 'Ether', symbol: 'ETH', decimals: 18 };
      const added = { chainId, chainName: chain.name, rpcUrls: [chain.rpcUrl], nativeCurrency };
      await provider.request({ method: 'wallet_addEthereumChain', params: [added] });
      await provider.request({ method: 'wallet_switchEthereumChain', params: [{ chainId }] });
    }
    await this.#readChain(provider);
  }

  /** After a reload: only if the wallet still allows it, and without a question. */
  async #resume(wallet: AnnouncedWallet): Promise<void> {
    try {
      const accounts = await wallet.provider.request({ method: 'eth_accounts' });
      if (Array.isArray(accounts) && accounts.length > 0) await this.#use(wallet, accounts);
    } catch {
      return;
    }
  }

  async #use(wallet: AnnouncedWallet, accounts: unknown): Promise<void> {
    this.#forget?.();
    const { provider } = wallet;
    const onAccounts = (value: never) => this.#setAccount(value);
    const onChain = (value: never) => this.#set({ chainId: chainNumber(value) });
    provider.on?.('accountsChanged', onAccounts);
    provider.on?.('chainChanged', onChain);
    this.#forget = () => {
      provider.removeListener?.('accountsChanged', onAccounts);
      provider.removeListener?.('chainChanged', onChain);
    };
    this.#set({ connected: wallet });
    this.#setAccount(accounts);
    await this.#readChain(provider);
  }

  async #readChain(provider: AnnouncedWallet['provider']): Promise<void> {
    this.#set({ chainId: chainNumber(await provider.request({ method: 'eth_chainId' })) });
  }

  #setAccount(accounts: unknown): void {
    const first: unknown = Array.isArray(accounts) ? accounts[0] : undefined;
    if (typeof first !== 'string' || !isAddress(first, { strict: false })) {
      this.disconnect();
      return;
    }
    const address = getAddress(first);
    // A log-in is one account's: with another account it is over, and nothing of it is shown any more.
    const session = currentSession();
    if (session !== null && session.address.toLowerCase() !== address.toLowerCase()) setSession(null);
    this.#set({ address });
  }

  #set(change: Partial<WalletState>): void {
    this.#state = { ...this.#state, ...change };
    for (const listener of this.#listeners) listener();
  }
}

export const walletStore = new WalletStore();

const UNKNOWN_CHAIN = 4902;
export const USER_REJECTED = 4001;

export function codeOf(fault: unknown): number | null {
  if (typeof fault !== 'object' || fault === null) return null;
  const { code, cause } = fault as { code?: unknown; cause?: unknown };
  if (typeof code === 'number' && code !== -32603) return code;
  return cause === undefined ? null : codeOf(cause);
}

function chainNumber(value: unknown): number | null {
  const id = typeof value === 'string' || typeof value === 'number' ? Number(value) : NaN;
  return Number.isSafeInteger(id) ? id : null;
}
