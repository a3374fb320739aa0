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
  // The nats that arm b saves against arm a; above zero, b helps.
  const gainOf = (conversation) => sum(conversation.items.map((item) => {
    const nats = both(item);
    return nats ? sum(nats.a) - sum(nats.b) : 0;
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
    const strength = Math.min(Math.abs(gain) / 2, 1) * 0.7;
    token.style.backgroundColor = `rgba(var(--${gain > 0 ? 'help' : 'hurt'}), ${strength.toFixed(2)})`;
    token.title = `${armA.value} ${a[index].toFixed(3)}, ${armB.value} ${b[index].toFixed(3)} nats: ${signed(gain)}`;
    return token;
  });

  const summary = (item, { a, b }) => {
    const count = item.tokens.length;
    const primary = item.primary ? ', primary' : '';
    return element('div', 'target', `${item.kind}, ${count} tokens${primary}: ${armA.value} ${(sum(a) / count).toFixed(3)}, `
      + `${armB.value} ${(sum(b) / count).toFixed(3)} nats per token; ${signed(sum(a) - sum(b))} nats in total`);
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

  const turn = (conversation, message, index) => {
    const row = element('div', 'turn ' + message.role);
    const bubble = element('div', 'bubble');
    bubble.append(element('span', 'who', message.role === 'assistant' && conversation.model ? conversation.model : message.role));
    const items = conversation.items.filter((item) => item.message === index && both(item));
    const own = items.find((item) => item.kind === 'next_prompt');
    if (own) bubble.append(...shadedTokens(own, both(own)), summary(own, both(own)), ...written(own));
    else bubble.append(document.createTextNode(message.text));
    const thoughts = element('div', 'thoughts');
    for (const thought of message.thoughts) {
      const shownThought = element('div', 'thought', thought.text);
      const late = thought.late === null ? ', time unknown' : thought.late ? ', hindsight' : '';
      shownThought.prepend(element('span', 'label', `${thought.kind}${thought.label ? ': ' + thought.label : ''}${late}`));
      thoughts.append(shownThought);
    }
    for (const item of items.filter((other) => other !== own)) {
      const target = element('div', 'thought');
      target.append(...shadedTokens(item, both(item)), summary(item, both(item)));
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
