import { useT } from '~/lib/i18n';
import type { Check } from '~/lib/protocol/verify';
import { Icon } from './icons';

/** Each question about a receipt with its answer; what was expected and found stands where they differ. */
export function CheckList({ checks }: { checks: readonly Check[] }) {
  const t = useT();
  return (
    <ul className="checks">
      {checks.map((check) => (
        <li key={check.name} data-check={check.name} data-ok={String(check.ok)}>
          <span className={check.ok === null ? 'is-open' : check.ok ? 'is-good' : 'is-bad'}>
            <Icon name={check.ok === null ? 'open' : check.ok ? 'done' : 'wrong'} />
            <span className="hidden-but-read">
              {check.ok === null ? t('check.open') : check.ok ? t('check.ok') : t('check.wrong')}
            </span>
          </span>
          <span>
            {t(check.name)}
            {check.ok === true ? null : (
              <span className="small soft">
                {' '}
                {check.ok === null
                  ? t('check.openText')
                  : t('check.differs', { expected: check.expected, found: check.found })}
              </span>
            )}
          </span>
        </li>
      ))}
    </ul>
  );
}
