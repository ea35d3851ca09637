// Asking for the server's token.

import { byId, say } from "./dom.js";

/** Ask for a token; resolves to it, or to null if the person cancels. */
export function askForToken(refused) {
  const dialog = byId("token-dialog");
  const form = byId("token-form");
  const field = byId("token");
  const back = document.activeElement;
  say(byId("token-error"), refused ? "The server did not accept this token." : "");
  field.value = "";
  dialog.showModal();
  field.focus();
  return new Promise((resolve) => {
    const done = new AbortController();
    const close = (token) => {
      done.abort();
      field.value = "";
      dialog.close();
      back?.focus?.();
      resolve(token);
    };
    const listen = (target, event, react) =>
      target.addEventListener(event, (happened) => {
        happened.preventDefault();
        react();
      }, { signal: done.signal });
    listen(form, "submit", () => close(field.value.trim() || null));
    listen(byId("token-cancel"), "click", () => close(null));
    listen(dialog, "cancel", () => close(null));
  });
}
