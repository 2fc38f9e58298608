/** Returns the message of anything that was thrown. */
export function messageOf(cause: unknown): string {
  return (cause instanceof Error ? cause.message : String(cause)).trim();
}

/** Strips the source location from a provider's message: "file.cc:12 function(…) condition was false. Message". */
export function providerMessage(message: string): string {
  const text = /was false\.\s*(.+)$/s.exec(message)?.[1] ?? message;
  return text.replace(/\s+/g, ' ').replace(/[ .]+$/, '');
}
