/** Progress lines that the terminal shows now. */
export const shownProgress = new Set<{ clear(): void }>();

/** Erases the progress lines on the terminal, so that the next message starts in column 1. */
export function clearProgress(): void {
  for (const line of shownProgress) line.clear();
}
