import { html } from 'htm/preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { ApiError } from '../api.ts';
import { Failure } from './notice.ts';

interface ConfirmProps {
  /** Label of the button that opens the dialog, and of the button that confirms the action. */
  readonly label: string;
  /** Text that tells the user what the action will do, in one or two sentences. */
  readonly effect: string;
  /** Label of the text field in the dialog. @default the dialog has no text field */
  readonly inputLabel?: string;
  /** Label of a second text field. @default there is none */
  readonly secondLabel?: string;
  /** @default false */
  readonly danger?: boolean;
  /** @throws ApiError, which the dialog shows */
  act(text: string, second: string): Promise<unknown>;
  /** Called after the action has succeeded. */
  onDone(): void;
}

/** A button whose action happens only after the user has confirmed it in a dialog. */
export function Confirm(props: ConfirmProps) {
  const [open, setOpen] = useState(false);
  const { label, danger = false } = props;
  // The dialog exists only while it is open, because a table has up to 100 of these buttons.
  return html`<button type="button" class=${danger ? 'danger' : ''} onClick=${() => setOpen(true)}>${label}</button>
    ${open && html`<${Dialog} ...${props} onClose=${() => setOpen(false)} />`}`;
}

function Dialog({
  label,
  effect,
  inputLabel,
  secondLabel,
  danger = false,
  act,
  onDone,
  onClose,
}: ConfirmProps & { onClose(): void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [text, setText] = useState('');
  const [second, setSecond] = useState('');
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError | null>(null);
  useEffect(() => dialog.current!.showModal(), []);
  // Closing the dialog, and not only removing it, gives the focus back to the button.
  const close = (): void => dialog.current?.close();
  const run = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await act(text, second);
      close();
      onDone();
    } catch (failure) {
      setError(failure as ApiError);
      setBusy(false);
    }
  };
  return html`<dialog ref=${dialog} onClose=${onClose} aria-label=${label}>
    <form onSubmit=${run}>
      <h2>${label}?</h2>
      <p>${effect}</p>
      ${inputLabel && html`<${Field} label=${inputLabel} text=${text} onText=${setText} />`}
      ${secondLabel && html`<${Field} label=${secondLabel} text=${second} onText=${setSecond} />`}
      <${Failure} error=${error} />
      <div class="buttons">
        <button type="button" onClick=${close}>Cancel</button>
        <button type="submit" class=${danger ? 'danger' : 'main'} disabled=${busy}>${label}</button>
      </div>
    </form>
  </dialog>`;
}

function Field({ label, text, onText }: { label: string; text: string; onText(text: string): void }) {
  return html`<label
    >${label}
    <input
      value=${text}
      maxlength="200"
      onInput=${(event: InputEvent) => onText((event.target as HTMLInputElement).value)}
  /></label>`;
}
