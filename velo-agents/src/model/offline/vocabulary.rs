//! Lists of words by which the rules read.

use super::words::Words;

/// Lowercase words, separated by white space.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vocabulary(&'static str);

impl Vocabulary {
    pub(super) fn has(self, word: &str) -> bool {
        self.0.split_whitespace().any(|known| known == word)
    }

    /// Whether one of its words is among `words`.
    pub(super) fn is_in(self, words: &Words) -> bool {
        words.iter().any(|word| self.has(word))
    }

    /// Whether `words` begin with one of its words.
    pub(super) fn begins(self, words: &Words) -> bool {
        words.iter().next().is_some_and(|word| self.has(word))
    }

    /// How many of its words are among `words`.
    pub(super) fn count(self, words: &Words) -> usize {
        self.0
            .split_whitespace()
            .filter(|known| words.iter().any(|word| word == *known))
            .count()
    }
}

/// With which people begin before they come to the product.
pub(super) const LEAD: Vocabulary = Vocabulary(
    "hi hello hey there please can could you i we id wed im were want wants wanted need needs would \
     like love to help me us lets also build make create develop design write code implement plan \
     launch prepare draft produce have an a the my our idea for is its it this should be some \
     simple small new nice good great looking ein eine einen un une una uno um uma een ich möchte \
     brauche",
);

/// With which the name of a product is over.
pub(super) const NAME_ENDS: Vocabulary = Vocabulary(
    "with that which who for where so to using including featuring like based in on from by when \
     plus it its because called named without as via is will should can must has of about helps \
     lets allows mit für die der das avec pour con para com met voor per at",
);

/// With which the words for an audience are over.
pub(super) const AUDIENCE_ENDS: Vocabulary = Vocabulary(
    "with that which who to where using including and so on at via mit avec con featuring without \
     in",
);

/// That stand before the words for an audience.
pub(super) const FOR: Vocabulary = Vocabulary("for für pour para");

/// That stand before a noun.
pub(super) const ARTICLES: Vocabulary = Vocabulary("a an the my our ein eine un une una");

/// That join two wishes or two words.
pub(super) const JOINTS: Vocabulary = Vocabulary("and plus & und et y e en with or");

/// That begin a list behind the name of a product.
pub(super) const LISTS: Vocabulary = Vocabulary("with including featuring mit avec con com met");

/// That may stand at the beginning of a wish without being a part of it.
pub(super) const FILLERS: Vocabulary = Vocabulary(
    "where it should must also has have and or then with which that some support supports \
     include includes including feature features featuring be able to there is are plus i want we \
     need please so but even for mit avec con und et of",
);

/// Behind which it is said what the product does.
pub(super) const RELATIVES: Vocabulary = Vocabulary("that which it also");

pub(super) const NEGATIONS: Vocabulary =
    Vocabulary("no not without dont doesnt never exclude excluding skip ohne kein keine sans sin");

/// Of which the absence is a wish: "without internet".
pub(super) const GOOD_TO_LACK: Vocabulary = Vocabulary("offline internet network connection");

pub(super) const DUTIES: Vocabulary =
    Vocabulary("must essential important core key critical mandatory required");

pub(super) const MAYBES: Vocabulary = Vocabulary(
    "optional optionally maybe later eventually nice ideally someday future perhaps bonus",
);

/// For what is given rather than wished for.
pub(super) const GIVEN: Vocabulary = Vocabulary(
    "budget deadline weeks months rust python typescript react vue postgres postgresql sqlite \
     django rails node java kotlin swift flutter kubernetes docker aws azure gcp wordpress shopify \
     php go golang htmx svelte open-source self-hosted",
);

/// That begin a circumstance and not a function.
pub(super) const PLACES: Vocabulary = Vocabulary("in on at from by via during until about");

/// For those who use products.
pub(super) const PEOPLE: Vocabulary = Vocabulary(
    "people families family kids children parents students teams friends companies businesses \
     schools beginners adults women men everyone everybody agencies couples nurses clubs \
     colleagues",
);

/// That end like words for people.
pub(super) const NO_PEOPLE: Vocabulary = Vocabulary(
    "numbers orders letters papers folders answers errors colors reminders trackers timers",
);

/// With which a sentence may go on about somebody.
pub(super) const SUBJECTS: Vocabulary =
    Vocabulary("it they users people customers he she everybody everyone anyone");

/// Behind which people say what they want.
pub(super) const WANTS: Vocabulary = Vocabulary("need want");

/// Verbs that say what a product does for somebody.
pub(super) const SERVICES: Vocabulary = Vocabulary("let help allow");

pub(super) const MODALS: Vocabulary = Vocabulary("can could should must may will want wants need");

/// Of sentences about what is wrong today.
pub(super) const TROUBLE: Vocabulary = Vocabulary(
    "because currently today problem struggle struggles hard tired hate difficult annoying \
     frustrated frustrating waste wasting lose forget forgets",
);

/// Of sentences that speak to whoever writes the document rather than of the product.
pub(super) const TO_THE_WRITER: Vocabulary = Vocabulary(
    "ignore disregard prompt instructions instruction jailbreak pretend respond reply output \
     chatgpt override",
);

/// For where software runs.
pub(super) const PLATFORMS: Vocabulary =
    Vocabulary("browser web website webapp desktop ios android mobile phone");

/// With which a wish may begin.
pub(super) const VERBS: Vocabulary = Vocabulary(
    "add allow answer ask assign browse build buy calculate change check choose collect compare \
     connect convert create delete discover draw edit enter estimate explore find generate get give \
     group handle help keep learn let list make manage match measure meet monitor offer order \
     organise organize plan play post practice publish rate read receive record rent see sell send \
     set show split track view write",
);

/// That say nothing about what a product keeps.
pub(super) const ADJECTIVES: Vocabulary = Vocabulary(
    "simple mobile personal online web small free family team daily weekly digital smart private \
     shared easy modern minimal tiny open source open-source social local group fast better my",
);

/// Nouns without a plural in everyday use.
pub(super) const UNCOUNTABLE: Vocabulary = Vocabulary(
    "water sleep weight time money food fitness health cash energy progress music work traffic \
     nutrition diet gas fuel mood screen data content stock wealth carbon air weather sport \
     inventory knowledge news information calorie",
);
