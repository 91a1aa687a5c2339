// Who can change what, and when it would hold: what a caller who builds on an app has to know.

import { Card, Note, Tag } from '~/components/parts';
import { Hex, Moment } from '~/components/values';
import { useDeployment } from '~/lib/deployment';
import { useT } from '~/lib/i18n';
import { shownSeconds } from '~/lib/time';
import type { App } from './queries';

export function Permanence({ app }: { app: App }) {
  const t = useT();
  const notice = shownSeconds(useDeployment().data?.noticeSeconds ?? 0);
  const open = !app.permanent && app.retired_at === null;
  const rows = [
    { what: t('perm.version'), who: t('perm.nobody'), when: t('perm.versionWhen'), fixed: true },
    { what: t('perm.add'), who: null, when: t('perm.addWhen'), fixed: !open },
    { what: t('perm.price'), who: null, when: t('perm.priceWhen', { notice }), fixed: !open },
    { what: t('perm.discount'), who: null, when: t('perm.discountWhen'), fixed: !open },
    { what: t('perm.retire'), who: null, when: t('perm.retireWhen', { notice }), fixed: !open },
    { what: t('perm.renounce'), who: null, when: t('perm.renounceWhen'), fixed: !open },
    { what: t('perm.owner'), who: t('perm.nobody'), when: t('perm.ownerWhen'), fixed: true },
  ];
  return (
    <Card title={t('app.permanence')}>
      <Note tone={app.permanent ? 'good' : app.retired_at === null ? 'plain' : 'warn'}>
        {app.permanent ? (
          t('app.isPermanent')
        ) : app.retired_at === null ? (
          t('app.canChange')
        ) : (
          <>
            {t('app.retiresAt')} <Moment ms={app.retired_at * 1000} />
          </>
        )}
      </Note>
      <ul className="stack-s">
        {rows.map((row) => (
          <li key={row.what} className="perm">
            <span>{row.what}</span>
            {row.fixed ? (
              <Tag tone="good">{t('perm.nobody')}</Tag>
            ) : (
              <span className="row">
                {t('perm.publisher')} <Hex value={app.publisher} />
              </span>
            )}
            <span className="small soft">{row.fixed && row.who === null ? t('perm.over') : row.when}</span>
          </li>
        ))}
      </ul>
    </Card>
  );
}
