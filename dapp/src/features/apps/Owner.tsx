// What a publisher may change of an app, each with when it holds and whether there is a way back.

import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import type { Hex as HexText } from 'viem';
import { Asked } from '~/components/asking';
import { Card, Note, TextField } from '~/components/parts';
import { TransactionButton } from '~/components/transaction';
import { renounceApp, retireApp, setAppDiscount, setAppPrice, type AppPrice } from '~/lib/chain/writes';
import { useDeployment, useToken, type Deployment } from '~/lib/deployment';
import { useT } from '~/lib/i18n';
import { exact, parseAmount, ratePerGpuSecondDown, SECONDS_PER_HOUR } from '~/lib/money';
import { parseDurationSeconds, shownSeconds } from '~/lib/time';
import { useWallet } from '~/lib/wallet/useWallet';
import { isMine, type App } from './queries';
import { lastPrice, useHistory } from './Versions';

export function Owner({ app }: { app: App }) {
  const { address } = useWallet();
  const t = useT();
  const deployment = useDeployment().data;
  const history = useHistory(app);
  if (!isMine(app, address) || deployment === undefined) return null;
  if (app.permanent || app.retired_at !== null) return null;
  return (
    <section className="stack-l" aria-label={t('owner.title')}>
      <div className="columns">
        <Asked query={history}>
          {(found) => {
            const price = lastPrice(found.prices, app.versions);
            return price === null ? null : (
              <PriceCard key={app.versions} app={app} at={deployment} before={price} />
            );
          }}
        </Asked>
        <DiscountCard app={app} at={deployment} />
      </div>
      <div className="columns">
        <Card title={t('owner.change')}>
          <p className="small soft">{t('owner.changeText')}</p>
          <div>
            <Link to="/apps/new" search={{ from: app.id }} className="button">
              {t('owner.changeAct')}
            </Link>
          </div>
        </Card>
        <EndCard app={app} at={deployment} />
      </div>
    </section>
  );
}

type Part = { app: App; at: Deployment };

function PriceCard({ app, at, before }: Part & { before: AppPrice }) {
  const t = useT();
  const token = useToken();
  const text = (units: bigint) => exact(units, token.decimals);
  const [call, setCall] = useState(text(before.feePerCall));
  const [hour, setHour] = useState(text(before.ratePerGpuSecond * SECONDS_PER_HOUR));
  const [flat, setFlat] = useState(text(before.flat));
  const unitsOf = (typed: string): bigint | null => {
    const parsed = parseAmount(typed, token.decimals);
    return parsed.ok ? parsed.units : parsed.why === 'zero' ? 0n : null;
  };
  const [feePerCall, perHour, flatUnits] = [unitsOf(call), unitsOf(hour), unitsOf(flat)];
  const price: AppPrice | null =
    feePerCall === null || perHour === null || flatUnits === null
      ? null
      : { feePerCall, flat: flatUnits, ratePerGpuSecond: ratePerGpuSecondDown(perHour) };
  const same =
    price !== null &&
    price.flat === before.flat &&
    price.feePerCall === before.feePerCall &&
    price.ratePerGpuSecond === before.ratePerGpuSecond;
  const fault = (units: bigint | null) => (units === null ? t('amount.form') : null);
  return (
    <Card title={t('owner.price')}>
      <p className="small soft">
        {t('owner.priceText', { version: app.versions, notice: shownSeconds(at.noticeSeconds) })}
      </p>
      <div className="fields">
        <TextField
          label={t('app.perCall')}
          unit={token.symbol}
          inputMode="decimal"
          value={call}
          fault={fault(feePerCall)}
          onValue={setCall}
        />
        <TextField
          label={t('app.perHour')}
          unit={`${token.symbol}/h`}
          inputMode="decimal"
          value={hour}
          fault={fault(perHour)}
          onValue={setHour}
        />
        <TextField
          label={t('app.flat')}
          unit={token.symbol}
          inputMode="decimal"
          value={flat}
          fault={fault(flatUnits)}
          onValue={setFlat}
        />
      </div>
      <TransactionButton
        disabled={price === null || same}
        prepare={() => Promise.resolve(setAppPrice(at, app.id as HexText, app.versions, price ?? before))}
      >
        {t('owner.priceAct')}
      </TransactionButton>
    </Card>
  );
}

const LONGEST_S = 366 * 86_400;

function DiscountCard({ app, at }: Part) {
  const t = useT();
  const [percent, setPercent] = useState('20');
  const [begins, setBegins] = useState('10m');
  const [lasts, setLasts] = useState('7d');
  const bps = /^\d{1,3}$/.test(percent.trim()) ? Number(percent) * 100 : 0;
  const afterS = parseDurationSeconds(begins);
  const forS = parseDurationSeconds(lasts);
  const goodPercent = bps >= 100 && bps <= 10_000;
  const goodBegin = afterS !== null && afterS >= 1;
  const goodLength = forS !== null && forS >= 1 && (afterS ?? 0) + forS <= LONGEST_S;
  return (
    <Card title={t('owner.discount')}>
      <p className="small soft">{t('owner.discountText')}</p>
      <div className="fields">
        <TextField
          label={t('deploy.discount')}
          unit="%"
          inputMode="numeric"
          value={percent}
          fault={goodPercent ? null : t('deploy.fault.percent')}
          onValue={setPercent}
        />
        <TextField
          label={t('owner.begins')}
          value={begins}
          fault={goodBegin ? null : t('deploy.fault.duration')}
          onValue={setBegins}
        />
        <TextField
          label={t('owner.lasts')}
          value={lasts}
          fault={goodLength ? null : t('owner.lastsFault')}
          onValue={setLasts}
        />
      </div>
      <TransactionButton
        tone="plain"
        disabled={!goodPercent || !goodBegin || !goodLength}
        prepare={async (signer) => {
          // By the chain's clock, which decides what lies ahead.
          const { timestamp } = await signer.reader.getBlock();
          const start = timestamp + BigInt(afterS ?? 0);
          return setAppDiscount(at, app.id as HexText, bps, start, start + BigInt(forS ?? 0));
        }}
      >
        {t('owner.discountAct')}
      </TransactionButton>
    </Card>
  );
}

function EndCard({ app, at }: Part) {
  const t = useT();
  const [sure, setSure] = useState(false);
  const notice = shownSeconds(at.noticeSeconds);
  return (
    <Card title={t('owner.end')}>
      <p className="small soft">{t('owner.retireText', { notice })}</p>
      <p className="small soft">{t('owner.renounceText')}</p>
      <label className="check">
        <input type="checkbox" checked={sure} onChange={(event) => setSure(event.target.checked)} />
        {t('owner.sure')}
      </label>
      {sure ? <Note tone="warn">{t('owner.noWayBack')}</Note> : null}
      <div className="row row-top">
        <TransactionButton
          tone="bad"
          disabled={!sure}
          prepare={() => Promise.resolve(retireApp(at, app.id as HexText))}
        >
          {t('owner.retire')}
        </TransactionButton>
        <TransactionButton
          tone="bad"
          disabled={!sure}
          prepare={() => Promise.resolve(renounceApp(at, app.id as HexText))}
        >
          {t('owner.renounce')}
        </TransactionButton>
      </div>
    </Card>
  );
}
