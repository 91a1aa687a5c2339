// The small set that every page is made of.

import {
  useEffect,
  useId,
  useRef,
  type ComponentProps,
  type InputHTMLAttributes,
  type ReactNode,
  type SelectHTMLAttributes,
  type TextareaHTMLAttributes,
} from 'react';
import { useT } from '~/lib/i18n';
import { Icon } from './icons';

export type Tone = 'plain' | 'good' | 'warn' | 'bad' | 'busy';

export function Page(props: { title: string; lead?: ReactNode; actions?: ReactNode; children: ReactNode }) {
  useEffect(() => {
    document.title = `${props.title} · Tallystick`;
  }, [props.title]);
  return (
    <div className="page">
      <header className="page-head">
        <div>
          <h1>{props.title}</h1>
          {props.lead === undefined ? null : <p>{props.lead}</p>}
        </div>
        {props.actions === undefined ? null : <div className="row">{props.actions}</div>}
      </header>
      {props.children}
    </div>
  );
}

export function Card({
  title,
  children,
  action,
}: {
  title?: ReactNode;
  children: ReactNode;
  action?: ReactNode;
}) {
  return (
    <section className="card">
      {title === undefined ? null : (
        <div className="row-between">
          <h2>{title}</h2>
          {action}
        </div>
      )}
      {children}
    </section>
  );
}

/** A card around a table: the table touches its edges. */
export function TableCard({
  title,
  action,
  children,
}: {
  title: ReactNode;
  action?: ReactNode;
  children: ReactNode;
}) {
  return (
    <section className="card card-flush">
      <div className="card-head row-between">
        <h2>{title}</h2>
        {action}
      </div>
      {children}
    </section>
  );
}

export interface Column<Row> {
  key: string;
  head: ReactNode;
  cell: (row: Row) => ReactNode;
  number?: boolean;
}

/** On a phone each row becomes a card whose lines name their column. */
export function Table<Row>(props: {
  caption: string;
  columns: readonly Column<Row>[];
  rows: readonly Row[];
  rowKey: (row: Row) => string;
  rowClass?: (row: Row) => string | undefined;
}) {
  return (
    <div className="table-box" tabIndex={0} role="region" aria-label={props.caption}>
      <table className="table table-cards">
        <caption className="hidden-but-read">{props.caption}</caption>
        <thead>
          <tr>
            {props.columns.map((column) => (
              <th key={column.key} scope="col" className={column.number === true ? 'is-number' : undefined}>
                {column.head}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {props.rows.map((row) => (
            <tr key={props.rowKey(row)} className={props.rowClass?.(row)}>
              {props.columns.map((column) => (
                <td
                  key={column.key}
                  className={column.number === true ? 'is-number' : undefined}
                  data-label={typeof column.head === 'string' ? column.head : undefined}
                >
                  {column.cell(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function Figure({ name, note, children }: { name: ReactNode; note?: ReactNode; children: ReactNode }) {
  return (
    <div className="figure">
      <dt>{name}</dt>
      <dd>
        {children}
        {note === undefined ? null : <div className="figure-note">{note}</div>}
      </dd>
    </div>
  );
}

export function Tag({
  tone = 'plain',
  children,
  dot = true,
}: {
  tone?: Tone;
  children: ReactNode;
  dot?: boolean;
}) {
  return <span className={`tag tag-${tone}${dot ? '' : ' tag-plain'}`}>{children}</span>;
}

export function Note({
  tone = 'plain',
  title,
  children,
}: {
  tone?: Tone;
  title?: ReactNode;
  children?: ReactNode;
}) {
  return (
    <div className={`note note-${tone}`} role={tone === 'bad' ? 'alert' : undefined}>
      {title === undefined ? null : <strong>{title}</strong>}
      {children === undefined ? null : <div>{children}</div>}
    </div>
  );
}

/** Nothing is here yet: says so, and what to do next. */
export function Empty({
  title,
  children,
  action,
}: {
  title: string;
  children?: ReactNode;
  action?: ReactNode;
}) {
  return (
    <div className="empty">
      <h3>{title}</h3>
      {children === undefined ? null : <p>{children}</p>}
      {action}
    </div>
  );
}

export function Loading() {
  const t = useT();
  return (
    <p className="row soft" role="status">
      <span className="spinner" aria-hidden="true" /> {t('loading')}
    </p>
  );
}

type FieldFrame = { label: ReactNode; hint?: ReactNode; fault?: string | null | undefined };

export function Field(
  props: FieldFrame & { children: (id: string, described: string | undefined) => ReactNode },
) {
  const id = useId();
  const hasNotes = props.hint !== undefined || (props.fault ?? '') !== '';
  return (
    <div className="field">
      <label htmlFor={id}>{props.label}</label>
      {props.children(id, hasNotes ? `${id}-notes` : undefined)}
      {hasNotes ? (
        <div id={`${id}-notes`}>
          {(props.fault ?? '') === '' ? null : <div className="fault">{props.fault}</div>}
          {props.hint === undefined ? null : <div className="hint">{props.hint}</div>}
        </div>
      ) : null}
    </div>
  );
}

type InputProps = Omit<InputHTMLAttributes<HTMLInputElement>, 'onChange' | 'value'> &
  FieldFrame & { value: string; onValue: (value: string) => void; unit?: ReactNode };

export function TextField({ label, hint, fault, unit, value, onValue, ...rest }: InputProps) {
  return (
    <Field label={label} hint={hint} fault={fault}>
      {(id, described) => {
        const input = (
          <input
            {...rest}
            id={id}
            className="input"
            value={value}
            aria-invalid={(fault ?? '') !== ''}
            aria-describedby={described}
            onChange={(event) => onValue(event.target.value)}
          />
        );
        if (unit === undefined) return input;
        return (
          <div className="input-with-unit">
            {input}
            <span className="unit">{unit}</span>
          </div>
        );
      }}
    </Field>
  );
}

type AreaProps = Omit<TextareaHTMLAttributes<HTMLTextAreaElement>, 'onChange' | 'value'> &
  FieldFrame & { value: string; onValue: (value: string) => void };

export function TextAreaField({ label, hint, fault, value, onValue, ...rest }: AreaProps) {
  return (
    <Field label={label} hint={hint} fault={fault}>
      {(id, described) => (
        <textarea
          {...rest}
          id={id}
          className="input mono"
          value={value}
          aria-invalid={(fault ?? '') !== ''}
          aria-describedby={described}
          onChange={(event) => onValue(event.target.value)}
        />
      )}
    </Field>
  );
}

type SelectProps = Omit<SelectHTMLAttributes<HTMLSelectElement>, 'onChange' | 'value'> &
  FieldFrame & { value: string; onValue: (value: string) => void; children: ReactNode };

export function SelectField({ label, hint, fault, value, onValue, children, ...rest }: SelectProps) {
  return (
    <Field label={label} hint={hint} fault={fault}>
      {(id, described) => (
        <select
          {...rest}
          id={id}
          className="input"
          value={value}
          aria-describedby={described}
          onChange={(event) => onValue(event.target.value)}
        >
          {children}
        </select>
      )}
    </Field>
  );
}

/** One of a few, all of them in sight. */
export function Choices<Value extends string>(props: {
  label: string;
  value: Value;
  options: readonly { value: Value; label: string }[];
  onValue: (value: Value) => void;
}) {
  const name = useId();
  return (
    <fieldset className="field">
      <legend className="hidden-but-read">{props.label}</legend>
      <div className="choices">
        {props.options.map((option) => (
          <label key={option.value}>
            <input
              type="radio"
              name={name}
              value={option.value}
              checked={props.value === option.value}
              onChange={() => props.onValue(option.value)}
            />
            <span>{option.label}</span>
          </label>
        ))}
      </div>
    </fieldset>
  );
}

/** The browser's own dialog: focus stays inside, Escape closes it, the page behind is inert. */
export function Dialog(props: { open: boolean; title: string; onClose: () => void; children: ReactNode }) {
  const t = useT();
  const ref = useRef<HTMLDialogElement>(null);
  const title = useId();
  useEffect(() => {
    const dialog = ref.current;
    if (dialog === null) return;
    if (props.open && !dialog.open) dialog.showModal();
    if (!props.open && dialog.open) dialog.close();
  }, [props.open]);
  return (
    <dialog ref={ref} className="dialog" aria-labelledby={title} onClose={props.onClose}>
      {props.open ? (
        <div className="dialog-body">
          <div className="dialog-head">
            <h2 id={title}>{props.title}</h2>
            <button type="button" className="copy" onClick={props.onClose} aria-label={t('close')}>
              <Icon name="close" />
            </button>
          </div>
          {props.children}
        </div>
      ) : null}
    </dialog>
  );
}

export function Button({ main, ...rest }: ComponentProps<'button'> & { main?: boolean }) {
  return (
    <button
      type="button"
      {...rest}
      className={`button${main === true ? ' button-main' : ''} ${rest.className ?? ''}`}
    />
  );
}
