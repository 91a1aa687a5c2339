// Values as people read them: amounts, addresses, digests, moments.

import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { useLanguage, useT } from '~/lib/i18n';
import { exact, shown, type Token } from '~/lib/money';
import { useDeployment, useToken } from '~/lib/deployment';
import { shortHex } from '~/lib/text';
import { Icon } from './icons';

export { shortHex };

/** An amount with its unit; the exact one is its title whenever digits were left out. */
export function Amount(props: { units: bigint; token?: Token; per?: string; price?: boolean }) {
  const payment = useToken();
  const { units, per } = props;
  const { symbol, decimals } = props.token ?? payment;
  const text = shown(units, decimals, props.price === true || per !== undefined ? 'nearest' : 'down');
  const whole = exact(units, decimals);
  return (
    <span
      className="amount"
      title={whole === text.replaceAll(',', '') ? undefined : `${whole} ${symbol}`}
      data-units={units.toString()}
    >
      {text}{' '}
      <span className="unit">
        {symbol}
        {per === undefined ? '' : `/${per}`}
      </span>
    </span>
  );
}

/** An address or a digest: short to read, whole to copy. */
export function Hex({ value, what }: { value: string; what?: string }) {
  return (
    <span className="address">
      <span title={value}>{shortHex(value)}</span>
      <Copy text={value} what={what ?? value} />
    </span>
  );
}

/** A transaction: at the chain's explorer where there is one, else on a page of this app. */
export function TransactionLink({ hash }: { hash: string }) {
  const t = useT();
  const explorer = useDeployment().data?.explorerUrl ?? null;
  return (
    <span className="address">
      {explorer === null ? (
        <Link to="/explorer/tx/$hash" params={{ hash }}>
          {shortHex(hash)}
        </Link>
      ) : (
        <a href={`${explorer}/tx/${hash}`} rel="noreferrer">
          {shortHex(hash)}
        </a>
      )}
      <Copy text={hash} what={t('tx.hash')} />
    </span>
  );
}

export function Copy({ text, what }: { text: string; what: string }) {
  const t = useT();
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  return (
    <button type="button" className="copy" onClick={() => void copy()} aria-label={t('copy', { what })}>
      <Icon name={copied ? 'done' : 'copy'} />
      <span className="hidden-but-read" role="status">
        {copied ? t('copied') : ''}
      </span>
    </button>
  );
}

export function Moment({ ms }: { ms: number }) {
  const { language } = useLanguage();
  const when = new Date(ms);
  const text = when.toLocaleString(language === 'zh' ? 'zh-CN' : 'en-GB', {
    dateStyle: 'medium',
    timeStyle: 'short',
  });
  return (
    <time dateTime={when.toISOString()} className="nowrap">
      {text}
    </time>
  );
}
