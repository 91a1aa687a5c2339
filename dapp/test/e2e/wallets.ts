// Two wallets as browsers have them: announced by EIP-6963 from inside the page, answering from here with the
// keys of anvil's development accounts. What a person would click in the wallet is a switch on `Wallets`.

import type { Page } from '@playwright/test';
import { createWalletClient, hexToString, http, isHex, type Address, type Hex } from 'viem';
import { mnemonicToAccount } from 'viem/accounts';

const MNEMONIC = 'test test test test test test test test test test test junk';

export function account(index: number) {
  return mnemonicToAccount(MNEMONIC, { addressIndex: index });
}

interface Sent {
  to: Address;
  data: Hex;
  gas?: Hex;
  value?: Hex;
  nonce?: number;
  tip?: bigint;
}

interface Call {
  wallet: string;
  method: string;
  params: unknown[];
}

export class Wallets {
  /** Every request that a person would have been asked about. */
  readonly asked: { wallet: string; method: string; params: unknown[] }[] = [];
  chainId = 31337;
  #rejections = 0;
  #heldBack: (() => void)[] | null = null;
  readonly #accounts: Record<string, number[]>;

  private constructor(
    readonly page: Page,
    readonly rpcUrl: string,
    first: number,
  ) {
    this.#accounts = { 'test.hazel': [first], 'test.alder': [first + 1] };
  }

  static async install(page: Page, rpcUrl: string, first: number): Promise<Wallets> {
    const wallets = new Wallets(page, rpcUrl, first);
    for (const index of [first, first + 1]) {
      await wallets.rpc('anvil_setBalance', [account(index).address, '0x56bc75e2d63100000']);
    }
    await page.exposeFunction('__walletRequest', (call: Call) => wallets.#answer(call));
    await page.addInitScript(announce);
    return wallets;
  }

  /** Which of anvil's accounts it is. */
  index(wallet = 'test.hazel'): number {
    return this.#accounts[wallet]?.[0] ?? 0;
  }

  address(wallet = 'test.hazel'): string {
    return account(this.#accounts[wallet]?.[0] ?? 0).address;
  }

  /** The next question is declined. */
  rejectNext(): void {
    this.#rejections += 1;
  }

  /** Questions stay open until `answerNow`: a person who takes their time. */
  hold(): void {
    this.#heldBack = [];
  }

  answerNow(): void {
    for (const go of this.#heldBack ?? []) go();
    this.#heldBack = null;
  }

  async switchAccount(index: number, wallet = 'test.hazel'): Promise<void> {
    this.#accounts[wallet] = [index];
    await this.#emit(wallet, 'accountsChanged', [account(index).address]);
  }

  async switchChain(chainId: number, wallet = 'test.hazel'): Promise<void> {
    this.chainId = chainId;
    await this.#emit(wallet, 'chainChanged', `0x${chainId.toString(16)}`);
  }

  async rpc(method: string, params: unknown[] = []): Promise<unknown> {
    const answer = await fetch(this.rpcUrl, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
    });
    const body = (await answer.json()) as {
      result?: unknown;
      error?: { code: number; message: string; data?: unknown };
    };
    if (body.error !== undefined) throw new RpcFault(body.error.code, body.error.message, body.error.data);
    return body.result;
  }

  /** Signs and sends as `from`; the nonce is the account's next one, or the one given. */
  async send(sent: Sent, from: string): Promise<Hex> {
    const index = Object.values(this.#accounts)
      .flat()
      .find((one) => account(one).address === from);
    const client = createWalletClient({ account: account(index ?? 0), transport: http(this.rpcUrl) });
    return client.sendTransaction({
      chain: null,
      to: sent.to,
      data: sent.data,
      ...(sent.value === undefined ? {} : { value: BigInt(sent.value) }),
      ...(sent.gas === undefined ? {} : { gas: BigInt(sent.gas) }),
      ...(sent.nonce === undefined ? {} : { nonce: sent.nonce }),
      ...(sent.tip === undefined ? {} : { maxPriorityFeePerGas: sent.tip, maxFeePerGas: sent.tip * 2n }),
    });
  }

  async #emit(wallet: string, event: string, value: unknown): Promise<void> {
    await this.page.evaluate((detail) => window.dispatchEvent(new CustomEvent('test:wallet', { detail })), {
      wallet,
      event,
      value,
    });
  }

  async #answer(
    call: Call,
  ): Promise<{ result?: unknown; error?: { code: number; message: string; data?: unknown } }> {
    try {
      return { result: await this.#do(call) };
    } catch (fault) {
      if (fault instanceof RpcFault)
        return { error: { code: fault.code, message: fault.message, data: fault.data } };
      return { error: { code: -32603, message: String(fault) } };
    }
  }

  async #do({ wallet, method, params }: Call): Promise<unknown> {
    const accounts = (this.#accounts[wallet] ?? []).map((index) => account(index));
    const [first] = accounts;
    if (first === undefined) throw new RpcFault(4100, 'no account');
    const addresses = accounts.map((one) => one.address);
    switch (method) {
      case 'eth_accounts':
        return addresses;
      case 'eth_chainId':
        return `0x${this.chainId.toString(16)}`;
      case 'eth_requestAccounts':
        await this.#ask({ wallet, method, params });
        return addresses;
      case 'wallet_switchEthereumChain':
        await this.#ask({ wallet, method, params });
        await this.switchChain(Number((params[0] as { chainId: string }).chainId), wallet);
        return null;
      case 'personal_sign': {
        await this.#ask({ wallet, method, params });
        const text = params[0] as string;
        return first.signMessage({ message: isHex(text) ? hexToString(text) : text });
      }
      case 'eth_signTypedData_v4': {
        await this.#ask({ wallet, method, params });
        return first.signTypedData(
          JSON.parse(params[1] as string) as Parameters<typeof first.signTypedData>[0],
        );
      }
      case 'eth_sendTransaction':
        await this.#ask({ wallet, method, params });
        return this.send(params[0] as Sent, first.address);
      default:
        return this.rpc(method, params);
    }
  }

  /** What a person is asked about: kept, perhaps held back, perhaps declined. */
  async #ask(call: Call): Promise<void> {
    this.asked.push(call);
    if (this.#heldBack !== null) await new Promise<void>((go) => this.#heldBack?.push(go));
    if (this.#rejections > 0) {
      this.#rejections -= 1;
      throw new RpcFault(4001, 'User rejected the request.');
    }
  }
}

class RpcFault extends Error {
  constructor(
    readonly code: number,
    message: string,
    readonly data?: unknown,
  ) {
    super(message);
  }
}

/** Runs inside the page, before the app. */
function announce(): void {
  type Listener = (value: unknown) => void;
  const request = (window as unknown as { __walletRequest: (call: unknown) => Promise<Answer> })
    .__walletRequest;
  type Answer = { result?: unknown; error?: { code: number; message: string; data?: unknown } };
  const icon =
    'data:image/svg+xml,%3Csvg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 28 28"%3E%3Crect width="28" height="28" rx="6" fill="%23COLOUR"/%3E%3C/svg%3E';
  const make = (rdns: string, name: string, colour: string) => {
    const listeners = new Map<string, Set<Listener>>();
    const provider = {
      request: async ({ method, params }: { method: string; params?: unknown[] }) => {
        const answer = await request({ wallet: rdns, method, params: params ?? [] });
        if (answer.error !== undefined) throw Object.assign(new Error(answer.error.message), answer.error);
        return answer.result;
      },
      on: (event: string, listener: Listener) => {
        listeners.set(event, (listeners.get(event) ?? new Set()).add(listener));
      },
      removeListener: (event: string, listener: Listener) => listeners.get(event)?.delete(listener),
    };
    window.addEventListener('test:wallet', (event) => {
      const {
        wallet,
        event: what,
        value,
      } = (event as CustomEvent<{ wallet: string; event: string; value: unknown }>).detail;
      if (wallet === rdns) for (const listener of listeners.get(what) ?? []) listener(value);
    });
    const info = { uuid: crypto.randomUUID(), rdns, name, icon: icon.replace('COLOUR', colour) };
    const detail = Object.freeze({ info, provider });
    const say = () => window.dispatchEvent(new CustomEvent('eip6963:announceProvider', { detail }));
    window.addEventListener('eip6963:requestProvider', say);
    say();
  };
  make('test.hazel', 'Hazel Wallet', 'a86a2a');
  make('test.alder', 'Alder Wallet', '3b6ea8');
}
