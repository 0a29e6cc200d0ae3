package org.sentei.fuzz;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.SplittableRandom;
import org.sentei.format.Models;
import org.sentei.format.TextTokenizer;

/** A tokenizer.json of every kind of model, normalizer, pre-tokenizer and post-processor; texts go through when it opens. */
final class TokenizerTarget implements FuzzTarget {
    private static final List<String> TEXTS = List.of(
            "",
            "hello world, hello!",
            "  A\u00e9\u4e2d\u6587 \ud83d\ude00\n\t[MASK] <s>x</s> 12345 don't\u0000\ufffd",
            "xx x\u00e9x \u2581\u0130\u0345 hell\u00f6 " + "a".repeat(150));
    private static final List<String> SEEDS = List.of("""
            {"version":"1.0","truncation":{"direction":"Right","max_length":8,"strategy":"LongestFirst","stride":2},
             "padding":{"strategy":{"Fixed":6},"direction":"Right","pad_to_multiple_of":4,"pad_id":0,"pad_type_id":0,
              "pad_token":"[PAD]"},
             "added_tokens":[{"id":0,"content":"[PAD]","single_word":false,"lstrip":false,"rstrip":false,
              "normalized":false,"special":true},{"id":3,"content":"[MASK]","single_word":true,"lstrip":true,
              "rstrip":true,"normalized":true,"special":false}],
             "normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,
              "lowercase":true},
             "pre_tokenizer":{"type":"BertPreTokenizer"},
             "post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"[CLS]","type_id":0}},
              {"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"[SEP]","type_id":0}}],
              "pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],
              "special_tokens":{"[CLS]":{"id":"[CLS]","ids":[1],"tokens":["[CLS]"]},
               "[SEP]":{"id":"[SEP]","ids":[2],"tokens":["[SEP]"]}}},
             "decoder":{"type":"WordPiece","prefix":"##","cleanup":true},
             "model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##",
              "max_input_chars_per_word":100,"vocab":{"[PAD]":0,"[CLS]":1,"[SEP]":2,"[MASK]":3,"[UNK]":4,"hello":5,
              "world":6,"##s":7,"!":8,",":9,"a":10,"##a":11}}}
            """, """
            {"version":"1.0","truncation":null,"padding":null,
             "added_tokens":[{"id":0,"content":"<s>","single_word":false,"lstrip":false,"rstrip":false,
              "normalized":false,"special":true}],
             "normalizer":{"type":"Sequence","normalizers":[{"type":"NFKC"},{"type":"Replace","pattern":{"Regex":" {2,}"},
              "content":" "},{"type":"Replace","pattern":{"String":"x"},"content":"y"},{"type":"Lowercase"},
              {"type":"StripAccents"},{"type":"Prepend","prepend":"\u2581"},{"type":"Strip","strip_left":true,
              "strip_right":true},{"type":"Nmt"},{"type":"NFD"}]},
             "pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Metaspace","replacement":"\u2581",
              "prepend_scheme":"always","split":true},{"type":"Digits","individual_digits":true},
              {"type":"Punctuation","behavior":"Isolated"}]},
             "post_processor":{"type":"RobertaProcessing","sep":["</s>",1],"cls":["<s>",0],"trim_offsets":true,
              "add_prefix_space":true},
             "decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"\u2581"},"content":" "},
              {"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]},
             "model":{"type":"Unigram","unk_id":0,"byte_fallback":false,"vocab":[["<s>",0.0],["</s>",0.0],
              ["\u2581",-2.5],["hello",-3.0],["\u2581hello",-1.5],["w",-4.0],["o",-4.1],["rld",-3.2],["a",-5.0]]}}
            """, """
            {"version":"1.0","truncation":null,"padding":null,"added_tokens":[],
             "normalizer":{"type":"Precompiled","precompiled_charsmap":"%s"},
             "pre_tokenizer":{"type":"Split","pattern":{"Regex":"(?i:'s|'t)|\\\\p{L}+|\\\\p{N}{1,3}| ?[^\\\\s]+|\\\\s+"},
              "behavior":"Isolated","invert":false},
             "post_processor":{"type":"BertProcessing","sep":["c",2],"cls":["a",0]},
             "decoder":{"type":"BPEDecoder","suffix":"</w>"},
             "model":{"type":"BPE","dropout":null,"unk_token":"a","continuing_subword_prefix":null,
              "end_of_word_suffix":null,"fuse_unk":true,"byte_fallback":true,"ignore_merges":false,
              "vocab":{"a":0,"b":1,"c":2,"h":3,"e":4,"l":5,"o":6,"he":7,"ll":8,"hell":9,"hello":10,"<0x00>":11,
               "<0xC3>":12},
              "merges":["h e","l l",["he","ll"],"hell o"]}}
            """, """
            {"version":"1.0","truncation":null,"padding":null,
             "added_tokens":[{"id":9,"content":"<x>","single_word":false,"lstrip":false,"rstrip":false,
              "normalized":true,"special":false}],
             "normalizer":{"type":"ByteLevel"},
             "pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"ByteLevel","add_prefix_space":true,
              "trim_offsets":true,"use_regex":true},{"type":"CharDelimiterSplit","delimiter":"-"},
              {"type":"UnicodeScripts"},{"type":"WhitespaceSplit"},{"type":"FixedLength","length":5}]},
             "post_processor":{"type":"Sequence","processors":[{"type":"ByteLevel","add_prefix_space":true,
              "trim_offsets":false,"use_regex":true}]},
             "decoder":{"type":"CTC","pad_token":"<pad>","word_delimiter_token":"|","cleanup":true},
             "model":{"type":"WordLevel","unk_token":"[UNK]","vocab":{"[UNK]":0,"hello":1,"world":2,"w":3,
              "!":4,"\u0120hello":5}}}
            """);
    private static final List<String> DICTIONARY = List.of(
            "\"type\"",
            "\"BPE\"",
            "\"Unigram\"",
            "\"WordLevel\"",
            "\"WordPiece\"",
            "\"Sequence\"",
            "\"Precompiled\"",
            "\"precompiled_charsmap\"",
            "\"/////w==\"",
            "\"AAAAAA==\"",
            "\"AQAAAA==\"",
            "\"CAAAAP////8AAACAAAA=\"",
            "\"Split\"",
            "\"Regex\"",
            "\"String\"",
            "\"MergedWithPrevious\"",
            "\"MergedWithNext\"",
            "\"Contiguous\"",
            "\"Removed\"",
            "{\"Regex\":\"(a*)*b\"}",
            "{\"Regex\":\"\"}",
            "{\"Regex\":\"(?=)\"}",
            "{\"Regex\":\"\\\\\\\\K\"}",
            "{\"Regex\":\"(\"}",
            "{\"Regex\":\"[\"}",
            "{\"Regex\":\"(?:a{1000}){1000}\"}",
            "{\"Regex\":\"((((((((((a+)+)+)+)+)+)+)+)+)+$\"}",
            "{\"Regex\":\"\\\\\\\\g<0>\"}",
            "{\"Regex\":\"(?<n>a|b\\\\\\\\g<n>c)\"}",
            "{\"String\":\"\"}",
            "\"Lowercase\"",
            "\"NFC\"",
            "\"Strip\"",
            "\"Prepend\"",
            "\"Replace\"",
            "\"BertNormalizer\"",
            "\"ByteLevel\"",
            "\"Metaspace\"",
            "\"\u2581\"",
            "\"never\"",
            "\"first\"",
            "\"prepend_scheme\"",
            "\"replacement\"",
            "\"Digits\"",
            "\"Punctuation\"",
            "\"UnicodeScripts\"",
            "\"Whitespace\"",
            "\"WhitespaceSplit\"",
            "\"CharDelimiterSplit\"",
            "\"delimiter\"",
            "\"FixedLength\"",
            "\"length\"",
            "\"RandomChunkSplit\"",
            "\"TemplateProcessing\"",
            "\"RobertaProcessing\"",
            "\"BertProcessing\"",
            "\"single\"",
            "\"pair\"",
            "\"special_tokens\"",
            "\"unk_id\"",
            "\"unk_token\"",
            "\"dropout\"",
            "\"byte_fallback\"",
            "\"vocab\"",
            "\"merges\"",
            "\"fuse_unk\"",
            "\"ignore_merges\"",
            "\"max_input_chars_per_word\"",
            "\"cache_capacity\"",
            "\"end_of_word_suffix\"",
            "\"continuing_subword_prefix\"",
            "\"added_tokens\"",
            "\"a b\"",
            "[\"a\",\"b\"]",
            "[[\"a\",-1.0]]",
            "[\"a\",0]",
            "{\"a\":4294967295}",
            "{\"a\":2147483648}",
            "\"hello\"",
            "\"h e\"",
            "{\"Fixed\":0}",
            "\"BatchLongest\"",
            "\"OnlySecond\"",
            "\"stride\"",
            "\"max_length\"",
            "\"pad_to_multiple_of\"",
            "{\"type\":\"Unigram\",\"unk_id\":null,\"vocab\":[]}",
            "{\"type\":\"Unigram\",\"unk_id\":7,\"vocab\":[[\"a\",0.0]]}",
            "{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}",
            "{\"type\":\"WordLevel\",\"unk_token\":\"x\",\"vocab\":{}}",
            "{\"type\":\"Split\",\"pattern\":{\"String\":\"\"},\"behavior\":\"Removed\",\"invert\":true}");

    private final List<JsonMutator.Node> seeds = new ArrayList<>();
    private JsonMutator.Node real;

    /** A double array that replaces x by a: one unit of 32 bits a label, then the replacements. */
    private static byte[] charactersMap() {
        ByteBuffer map = ByteBuffer.allocate(4 + 1024 + 2).order(ByteOrder.LITTLE_ENDIAN);
        map.putInt(1024).putInt(4 + 4 * 'x', 'x' | 1 << 8 | 0x80 << 10);
        map.put(4 + 1024, (byte) 'a');
        return map.array();
    }

    /** The tokenizer whose normalizer is the map, damaged inside of the map. */
    private static String damagedMap(SplittableRandom random) {
        byte[] map = ByteMutator.mutate(charactersMap(), random);
        return SEEDS.get(2).replace("%s", Base64.getEncoder().encodeToString(map));
    }

    @Override
    public Case make(SplittableRandom random, Path folder) throws IOException {
        if (seeds.isEmpty()) {
            Files.createDirectories(folder);
            String map = Base64.getEncoder().encodeToString(charactersMap());
            SEEDS.forEach(seed -> seeds.add(JsonMutator.parse(seed.replace("%s", map))));
            real = JsonMutator.parse(
                    Files.readString(Models.folder("austen-llama").resolve("tokenizer.json")));
        }
        JsonMutator.Node seed = random.nextInt(40) == 0 ? real : seeds.get(random.nextInt(seeds.size()));
        String text = random.nextInt(10) == 0 ? damagedMap(random) : JsonMutator.mutate(seed, random, DICTIONARY);
        byte[] damaged = text.getBytes(StandardCharsets.UTF_8);
        Path input = folder.resolve("tokenizer.json");
        Files.write(input, random.nextInt(8) == 0 ? ByteMutator.mutate(damaged, random) : damaged);
        return new Case(input, List.of(input.toString()), () -> {
            try (TextTokenizer tokenizer = TextTokenizer.open(input)) {
                tokenizer.encode(TEXTS, true);
                tokenizer.encode(TEXTS, false);
            }
        });
    }
}
