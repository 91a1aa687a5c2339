import { Link } from '@tanstack/react-router';
import { useMemo, useState } from 'react';
import { Asked } from '~/components/asking';
import { Card, Empty, Figure, Page, SelectField, Table, TableCard, Tag, TextField } from '~/components/parts';
import { Amount, shortHex } from '~/components/values';
import { useT } from '~/lib/i18n';
import { divideUp, SECONDS_PER_HOUR } from '~/lib/money';
import { History } from './History';
import {
  chooseOffers,
  offersOf,
  pricesByModel,
  useListings,
  useSearch,
  type Listing,
  type Offer,
  type Wanted,
} from './listings';

const ANY: Wanted = { gpuClass: '', memoryGib: 0, freeOnly: false, realOnly: false, sort: 'price' };

export function MarketPage() {
  const t = useT();
  const listings = useListings();
  return (
    <Page title={t('market.title')} lead={t('market.lead')}>
      <Asked query={listings}>{(found) => <Market listings={found} />}</Asked>
    </Page>
  );
}

function Market({ listings }: { listings: readonly Listing[] }) {
  const t = useT();
  const [wanted, setWanted] = useState<Wanted>(ANY);
  const [callSeconds, setCallSeconds] = useState('2');
  const offers = useMemo(() => offersOf(listings), [listings]);
  const prices = useMemo(() => pricesByModel(offers), [offers]);
  const [where, setWhere] = useState('');
  const search = useSearch(where);
  const fits = where.trim() === '' ? null : search.data;
  const chosen = useMemo(
    () =>
      chooseOffers(
        offers.filter((offer) => fits == null || fits.has(offer.key)),
        wanted,
      ),
    [offers, fits, wanted],
  );
  const clear = () => {
    setWanted(ANY);
    setWhere('');
  };
  const classes = [...new Set(offers.map((offer) => offer.gpuClass))].sort();
  const callMs = BigInt(Math.round(Math.min(3600, Math.max(0.001, Number(callSeconds) || 1)) * 1000));
  if (offers.length === 0) {
    return (
      <section className="card">
        <Empty title={t('market.none')}>{t('market.noneText')}</Empty>
      </section>
    );
  }
  const free = offers.reduce((sum, offer) => sum + offer.free, 0);
  const cheapest = prices.reduce<bigint | null>(
    (least, row) => (least === null || row.min < least ? row.min : least),
    null,
  );
  return (
    <>
      <dl className="figures">
        <Figure name={t('market.free')} note={t('market.ofCards', { cards: listings.length })}>
          {free}
        </Figure>
        <Figure name={t('market.providers')}>
          {new Set(offers.filter((o) => o.online).map((o) => o.provider)).size}
        </Figure>
        <Figure name={t('market.from')} note={t('market.perGpuHour')}>
          {cheapest === null ? t('none') : <Amount price units={cheapest * SECONDS_PER_HOUR} />}
        </Figure>
      </dl>
      <TableCard title={t('market.prices')}>
        <Table
          caption={t('market.pricesCaption')}
          rows={prices}
          rowKey={(row) => row.key}
          columns={[
            {
              key: 'model',
              head: t('market.model'),
              cell: (row) => <Model gpuClass={row.gpuClass} model={row.model} />,
            },
            {
              key: 'cards',
              head: t('market.cards'),
              number: true,
              cell: (row) => t('market.freeOf', { free: row.free, cards: row.cards }),
            },
            {
              key: 'min',
              head: t('market.min'),
              number: true,
              cell: (row) => <Amount units={row.min * SECONDS_PER_HOUR} per="h" />,
            },
            {
              key: 'median',
              head: t('market.median'),
              number: true,
              cell: (row) => <Amount units={row.median * SECONDS_PER_HOUR} per="h" />,
            },
            {
              key: 'max',
              head: t('market.max'),
              number: true,
              cell: (row) => <Amount units={row.max * SECONDS_PER_HOUR} per="h" />,
            },
          ]}
        />
      </TableCard>
      <Card title={t('market.filter')}>
        <TextField
          label={t('market.search')}
          hint={t('market.searchHint')}
          fault={where.trim() !== '' && search.error !== null ? search.error.message : undefined}
          placeholder="vram>=24 gpu in (rtx3090, rtx4090) price<0.5"
          spellCheck={false}
          autoComplete="off"
          maxLength={500}
          value={where}
          onValue={setWhere}
        />
        <div className="fields">
          <SelectField
            label={t('market.class')}
            value={wanted.gpuClass}
            onValue={(gpuClass) => setWanted({ ...wanted, gpuClass })}
          >
            <option value="">{t('market.any')}</option>
            {classes.map((name) => (
              <option key={name} value={name}>
                {name}
              </option>
            ))}
          </SelectField>
          <SelectField
            label={t('market.memory')}
            value={wanted.memoryGib.toString()}
            onValue={(gib) => setWanted({ ...wanted, memoryGib: Number(gib) })}
          >
            {[0, 8, 16, 24, 40, 80].map((gib) => (
              <option key={gib} value={gib}>
                {gib === 0 ? t('market.any') : t('market.atLeast', { gib })}
              </option>
            ))}
          </SelectField>
          <SelectField
            label={t('market.sort')}
            value={wanted.sort}
            onValue={(sort) => setWanted({ ...wanted, sort: sort as Wanted['sort'] })}
          >
            <option value="price">{t('market.sortPrice')}</option>
            <option value="free">{t('market.sortFree')}</option>
            <option value="memory">{t('market.sortMemory')}</option>
          </SelectField>
          <TextField
            label={t('market.callLength')}
            unit={t('unit.seconds')}
            inputMode="decimal"
            value={callSeconds}
            onValue={setCallSeconds}
          />
        </div>
        <div className="row">
          <label className="check">
            <input
              type="checkbox"
              checked={wanted.freeOnly}
              onChange={(e) => setWanted({ ...wanted, freeOnly: e.target.checked })}
            />
            {t('market.freeOnly')}
          </label>
          <label className="check">
            <input
              type="checkbox"
              checked={wanted.realOnly}
              onChange={(e) => setWanted({ ...wanted, realOnly: e.target.checked })}
            />
            {t('market.realOnly')}
          </label>
        </div>
      </Card>
      <div>
        <TableCard title={t('market.offers', { count: chosen.length })}>
          {chosen.length === 0 ? (
            <Empty
              title={t('market.noMatch')}
              action={
                <button type="button" className="button" onClick={clear}>
                  {t('market.clear')}
                </button>
              }
            >
              {t('market.noMatchText')}
            </Empty>
          ) : (
            <OfferTable offers={chosen} callMs={callMs} />
          )}
        </TableCard>
      </div>
      <History />
    </>
  );
}

function OfferTable({ offers, callMs }: { offers: readonly Offer[]; callMs: bigint }) {
  const t = useT();
  return (
    <Table
      caption={t('market.offersCaption')}
      rows={offers}
      rowKey={(offer) => offer.key}
      columns={[
        {
          key: 'model',
          head: t('market.model'),
          cell: (offer) => (
            <Model gpuClass={offer.gpuClass} model={offer.model} simulated={offer.simulated} />
          ),
        },
        {
          key: 'memory',
          head: t('market.vram'),
          number: true,
          cell: (offer) => `${Math.round(offer.memoryMib / 1024).toString()} GiB`,
        },
        {
          key: 'provider',
          head: t('market.provider'),
          cell: (offer) => (
            <Link to="/providers/$address" params={{ address: offer.provider }} className="mono">
              {shortHex(offer.provider)}
            </Link>
          ),
        },
        {
          key: 'free',
          head: t('market.cards'),
          cell: (offer) => (
            <Tag tone={offer.free > 0 ? 'good' : offer.online ? 'busy' : 'plain'}>
              {offer.online
                ? t('market.freeOf', { free: offer.free, cards: offer.cards })
                : t('state.offline')}
            </Tag>
          ),
        },
        {
          key: 'second',
          head: t('market.perSecond'),
          number: true,
          cell: (offer) => <Amount price units={offer.rate} />,
        },
        {
          key: 'hour',
          head: t('market.perHour'),
          number: true,
          cell: (offer) => <Amount price units={offer.rate * SECONDS_PER_HOUR} />,
        },
        {
          key: 'call',
          head: t('market.perCall'),
          number: true,
          cell: (offer) => <Amount price units={divideUp(offer.rate * callMs, 1000n)} />,
        },
      ]}
    />
  );
}

export function Model({
  gpuClass,
  model,
  simulated,
}: {
  gpuClass: string;
  model: string;
  simulated?: boolean | undefined;
}) {
  const t = useT();
  return (
    <span className="stack-s">
      <span>
        <strong>{gpuClass}</strong> <span className="soft">{model}</span>{' '}
        {simulated === true ? (
          <Tag tone="warn" dot={false}>
            {t('simulated')}
          </Tag>
        ) : null}
      </span>
    </span>
  );
}
