// The explorer: one conversation as a chat, each target token shaded by the nats that arm b saves or costs.
// Text from the data is inserted as text, never as markup.
'use strict';
(() => {
  const data = JSON.parse(document.getElementById('explorer-data').textContent);
  const byId = (id) => document.getElementById(id);
  const [list, chat, armA, armB, order] = ['list', 'chat', 'arm-a', 'arm-b', 'order'].map(byId);
  const element = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const signed = (value) => (value < 0 ? '−' : '+') + Math.abs(value).toFixed(2);
  const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
  const both = (item) => {
    const [a, b] = [item.nats[armA.value], item.nats[armB.value]];
    return a && b ? { a, b } : null;
  };
  // The thoughts that an arm sees before a target, and those that it does not see yet.
  const NOTHING = { seen: [], late: [] };
  const viewOf = (arm) => data.views[data.arms.indexOf(arm)];
  const thoughtsOf = (arm, item) => (viewOf(arm) === null ? NOTHING : item.views[viewOf(arm)] || NOTHING);
  // A target counts if one of the arms sees a thought before it, or if neither arm sees thoughts anywhere: before the
  // others, a difference between the arms is one of training.
  const counts = (item) => {
    const arms = [armA.value, armB.value];
    return arms.every((arm) => viewOf(arm) === null) || arms.some((arm) => thoughtsOf(arm, item).seen.length > 0);
  };
  // The nats that arm b saves against arm a; above zero, b helps.
  const gainOf = (conversation) => sum(conversation.items.map((item) => {
    const nats = both(item);
    return nats && counts(item) ? sum(nats.a) - sum(nats.b) : 0;
  }));
  const sideOf = (gain) => (gain > 0 ? 'helped' : 'hurt');

  let shown = 0;
  let ordered = [];

  const fillArms = () => {
    for (const [select, chosen] of [[armA, data.chosen[0]], [armB, data.chosen[1]]]) {
      data.arms.forEach((name) => select.append(new Option(name, name)));
      select.selectedIndex = chosen;
    }
  };

  const fillList = () => {
    ordered = data.conversations.map((conversation) => ({ conversation, gain: gainOf(conversation) }));
    if (order.value === 'help') ordered.sort((x, y) => y.gain - x.gain);
    if (order.value === 'harm') ordered.sort((x, y) => x.gain - y.gain);
    list.replaceChildren(...ordered.map(({ conversation, gain }, index) => {
      const row = element('li');
      row.setAttribute('role', 'option');
      row.append(element('span', 'gain ' + sideOf(gain), signed(gain)), element('span', '', conversation.id));
      row.addEventListener('click', () => show(index));
      return row;
    }));
    show(0);
  };

  const shadedTokens = (item, { a, b }) => item.tokens.map((text, index) => {
    const gain = a[index] - b[index];
    const token = element('span', 'token', text);
    if (!counts(item)) return token;
    const strength = Math.min(Math.abs(gain) / 2, 1) * 0.7;
    token.style.backgroundColor = `rgba(var(--${gain > 0 ? 'help' : 'hurt'}), ${strength.toFixed(2)})`;
    token.title = `${armA.value} ${a[index].toFixed(3)}, ${armB.value} ${b[index].toFixed(3)} nats: ${signed(gain)}`;
    return token;
  });

  const summary = (item, { a, b }) => {
    const count = item.tokens.length;
    const primary = item.primary ? ', primary' : '';
    const total = counts(item) ? `; ${signed(sum(a) - sum(b))} nats in total`
      : '; no thought visible here: this is a difference of training';
    return element('div', 'target', `${item.kind}, ${count} tokens${primary}: ${armA.value} ${(sum(a) / count).toFixed(3)}, `
      + `${armB.value} ${(sum(b) / count).toFixed(3)} nats per token${total}`);
  };

  // What the arms see before a target: every thought with the words that the arm is shown, and those that are hidden
  // because they were written later.
  const seenList = (conversation, item) => {
    const arms = [armA.value, armB.value].filter((arm, at, all) => viewOf(arm) !== null && all.indexOf(arm) === at);
    return arms.map((arm) => {
      const { seen, late } = thoughtsOf(arm, item);
      const details = element('details', 'seen');
      const hidden = late.length ? `, ${late.length} hidden: written later` : '';
      details.append(element('summary', '', `${arm} sees ${seen.length} thought${seen.length === 1 ? '' : 's'}${hidden}`));
      const own = ([message, thought]) => conversation.messages[message].thoughts[thought];
      const words = (at) => ((conversation.words || {})[arm] ? conversation.words[arm][at[0]][at[1]] : own(at).text);
      for (const [thoughts, isLate] of [[seen, false], [late, true]]) {
        for (const at of thoughts) {
          const row = element('div', isLate ? 'thought late' : 'thought', isLate ? own(at).text : words(at) || '(no words)');
          row.prepend(element('span', 'label', `${own(at).kind} about message ${at[0] + 1}${isLate ? ', hidden: written later' : ''}`));
          details.append(row);
        }
      }
      return details;
    });
  };

  // The messages that both arms wrote in place of this one, side by side.
  const written = (item) => {
    const texts = item.written || {};
    const pair = element('div', 'written');
    for (const arm of [armA.value, armB.value]) {
      if (!(arm in texts)) continue;
      const one = element('div', '', texts[arm] || '(nothing)');
      one.prepend(element('span', 'label', `${arm} wrote`));
      pair.append(one);
    }
    return pair.childElementCount ? [pair] : [];
  };

  // What leaving a thought out did to each target after it.
  const effectsOf = (conversation, message, thought) => conversation.items.flatMap((item) => (item.saved || [])
    .filter(([about, number]) => about === message && number === thought)
    .map(([, , nats]) => `without it, message ${item.message + 1} costs ${signed(nats)} nats`));

  const turn = (conversation, message, index) => {
    const row = element('div', 'turn ' + message.role);
    const bubble = element('div', 'bubble');
    bubble.append(element('span', 'who', message.role === 'assistant' && conversation.model ? conversation.model : message.role));
    const items = conversation.items.filter((item) => item.message === index && both(item));
    const own = items.find((item) => item.kind === 'next_prompt');
    if (own) {
      bubble.append(...shadedTokens(own, both(own)), summary(own, both(own)), ...seenList(conversation, own), ...written(own));
    }
    else bubble.append(document.createTextNode(message.text));
    const thoughts = element('div', 'thoughts');
    message.thoughts.forEach((thought, number) => {
      const shownThought = element('div', 'thought', thought.text);
      const late = thought.late === null ? ', time unknown' : thought.late ? ', hindsight' : '';
      shownThought.prepend(element('span', 'label', `${thought.kind}${thought.label ? ': ' + thought.label : ''}${late}`));
      const effects = effectsOf(conversation, index, number);
      if (effects.length) {
        shownThought.classList.add('button');
        shownThought.tabIndex = 0;
        shownThought.setAttribute('role', 'button');
        const toggle = () => {
          const open = shownThought.querySelectorAll('.effect');
          if (open.length) open.forEach((one) => one.remove());
          else shownThought.append(...effects.map((effect) => element('div', 'effect', effect)));
        };
        shownThought.addEventListener('click', toggle);
        shownThought.addEventListener('keydown', (event) => { if (event.key === 'Enter') toggle(); });
      }
      thoughts.append(shownThought);
    });
    for (const item of items.filter((other) => other !== own)) {
      const target = element('div', 'thought');
      target.append(...shadedTokens(item, both(item)), summary(item, both(item)), ...seenList(conversation, item));
      thoughts.append(target);
    }
    row.append(bubble, thoughts);
    return row;
  };

  const show = (index) => {
    if (!ordered.length) {
      chat.replaceChildren(element('p', '', 'No conversation to show.'));
      return;
    }
    shown = Math.max(0, Math.min(index, ordered.length - 1));
    [...list.children].forEach((row, at) => row.setAttribute('aria-selected', String(at === shown)));
    const row = list.children[shown];
    list.scrollTop = Math.min(Math.max(list.scrollTop, row.offsetTop + row.offsetHeight - list.offsetTop - list.clientHeight),
      row.offsetTop - list.offsetTop);
    const { conversation } = ordered[shown];
    chat.replaceChildren(...conversation.messages.map((message, at) => turn(conversation, message, at)));
  };

  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === 'SELECT') return;
    if (event.key === 'j') show(shown + 1);
    if (event.key === 'k') show(shown - 1);
  });
  for (const select of [armA, armB, order]) select.addEventListener('change', fillList);
  fillArms();
  fillList();
})();
