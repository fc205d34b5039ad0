// The page renews itself from the server's HTML, in place: what has not changed is not touched, so that open details,
// focus, scroll places, selections and half-filled forms stay. Without this script the page is a plain page.
"use strict";

(() => {
  const EVERY = 5000; // ms between two looks: a person sees a job begin and end
  const LONGEST = 60000; // ms between two looks at a backend that does not answer
  const PATIENCE = 10000; // ms for one answer
  const contact = document.getElementById("contact");
  let wait = EVERY;
  let timer = 0;
  let silentSince = "";

  // What a person has opened stays so, whatever the server says.
  const THEIRS = { DETAILS: ["open"], DIALOG: ["open"] };

  function attributes(old, fresh) {
    const theirs = THEIRS[old.nodeName] || (old === document.activeElement && "value" in old ? ["value"] : []);
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && !theirs.includes(name)) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value && !theirs.includes(name)) old.setAttribute(name, value);
    }
  }

  const alike = (old, fresh) => old.nodeName === fresh.nodeName && (old.id || "") === (fresh.id || "");

  // Children with an id are known by it, wherever they stand; the others by their place.
  function children(old, fresh) {
    const mine = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
    const coming = new Set([...fresh.children].map((child) => child.id).filter(Boolean));
    let at = old.firstChild;
    const drop = () => {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    };
    for (const next of [...fresh.childNodes]) {
      const known = next.id && mine.has(next.id) && alike(mine.get(next.id), next) ? mine.get(next.id) : null;
      // What stands before it and comes no more goes first: an element that is moved loses its focus.
      while (known && at !== known && !coming.has(at.id)) drop();
      if (known && at !== known) old.insertBefore(known, at);
      const here = known || (at && alike(at, next) ? at : null);
      if (here && here === at) at = at.nextSibling;
      if (here) renew(here, next);
      else old.insertBefore(document.importNode(next, true), at);
    }
    while (at) drop();
  }

  function renew(old, fresh) {
    if (old.isEqualNode(fresh)) return;
    if (old.nodeType !== Node.ELEMENT_NODE) {
      old.nodeValue = fresh.nodeValue;
      return;
    }
    attributes(old, fresh);
    children(old, fresh);
  }

  // The address without what the last action said: that is said once.
  function address() {
    const here = new URL(location.href);
    here.searchParams.delete("said");
    here.hash = here.username = here.password = "";
    return here;
  }

  const script = (page) => page.querySelector("script[src]")?.getAttribute("src");
  const touched = () => [...document.querySelectorAll("input:not([type=hidden]), select, textarea")].some((field) =>
    field === document.activeElement || ("defaultValue" in field && field.value !== field.defaultValue));

  function say(text) {
    contact.hidden = !text;
    if (contact.textContent !== text) contact.textContent = text;
  }

  function trouble(status) {
    silentSince = silentSince || new Date().toLocaleTimeString();
    wait = Math.min(wait * 2, LONGEST);
    if (status === 401) say("The backend does not take this sign-in any more: load the page again.");
    else if (status === 404) say("The backend does not know this project any more.");
    else say(`The backend has not answered since ${silentSince}. The page shows what it last said, and goes on by itself.`);
  }

  async function look() {
    clearTimeout(timer);
    timer = 0;
    if (document.hidden) return;
    try {
      const answer = await fetch(address(), { signal: AbortSignal.timeout(PATIENCE), headers: { Accept: "text/html" } });
      if (!answer.ok) trouble(answer.status);
      else {
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        if (script(fresh) !== script(document) && !touched()) return location.reload(); // mollm was updated
        document.title = fresh.title;
        renew(document.getElementById("main"), fresh.getElementById("main"));
        wait = EVERY;
        silentSince = "";
        say("");
      }
    } catch (error) {
      trouble(0);
    }
    if (!document.hidden && !timer) timer = setTimeout(look, wait);
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    timer = 0;
    if (!document.hidden) look();
  });
  if (contact && document.getElementById("main")) timer = setTimeout(look, EVERY);
})();
