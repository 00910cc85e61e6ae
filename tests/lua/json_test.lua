-- JSON there and back: integers, digits, empty arrays, order, hostile texts.
local lu = require "luaunit"
local json = require "knbl.json"

TestJson = {}

function TestJson:test_integers_stay_integers()
  local value = json.decode '{"a":1,"b":[2,3.5],"c":123456789012345,"d":-7}'
  lu.assertEquals(math.type(value.a), "integer")
  lu.assertEquals(math.type(value.b[1]), "integer")
  lu.assertEquals(value.b[2], 3.5)
  lu.assertEquals(value.c, 123456789012345)
  lu.assertEquals(json.encode(value), '{"a":1,"b":[2,3.5],"c":123456789012345,"d":-7}')
end

function TestJson:test_all_digits_of_a_number()
  for _, x in ipairs { 0.1, 1 / 3, 1e-300, 123456.789012345, 1e20, 2 ^ 53 + 2, -0.5 } do
    lu.assertEquals(tonumber(json.encode(x)), x)
  end
end

function TestJson:test_empty_arrays_and_objects()
  lu.assertEquals(json.encode { a = json.array(), b = {} }, '{"a":[],"b":{}}')
  lu.assertEquals(json.encode(json.array { 1 }), "[1]")
end

function TestJson:test_order_of_keys()
  lu.assertEquals(json.encode { b = 1, a = 2, c = 3 }, '{"a":2,"b":1,"c":3}')
  lu.assertEquals(json.encode(json.ordered({ b = 1, a = 2, c = 3 }, { "c", "x" })), '{"c":3,"a":2,"b":1}')
end

function TestJson:test_texts()
  local nasty = "a/b\\/\"\n\1</script>=é\u{1F600}"
  lu.assertEquals(json.decode(json.encode { nasty })[1], nasty)
  lu.assertEquals(json.decode(json.encode { "x\255y" })[1], "x\u{FFFD}y")
end

function TestJson:test_what_json_cannot_say_is_refused()
  lu.assertErrorMsgContains("number", json.encode, { 0 / 0 })
  lu.assertErrorMsgContains("number", json.encode, { math.huge })
  lu.assertErrorMsgContains("function", json.encode, { print })
  lu.assertErrorMsgContains("several kinds", json.encode, { 1, x = 2 })
  local t = {}
  t.t = t
  lu.assertErrorMsgContains("contains itself", json.encode, t)
end

function TestJson:test_nulls_are_absent()
  local value = json.decode '{"a":null,"b":[1,null,2]}'
  lu.assertNil(value.a)
  lu.assertEquals(#value.b, 3)
  lu.assertEquals(json.encode(value), '{"b":[1,null,2]}')
end

function TestJson:test_pretty_keeps_lists_of_numbers_on_a_line()
  lu.assertEquals(json.encode({ a = { 1, 2 }, b = { { 1, 2 }, { 3, 4 } } }, true),
    '{\n  "a": [1, 2],\n  "b": [[1,2], [3,4]]\n}')
end

-- Lists of alike objects are written by a shorter way: it must say the same as the long one.
function TestJson:test_rows_are_written_as_other_objects_are()
  local rows = {
    { t = 0.1, bps = 7 }, { t = 1 / 3, bps = 2 ^ 60 }, { t = 0.30000000000000004, bps = 1e300 }, { t = -0.25, bps = 0 },
      { bps = "a%d\"" }, { t = 1 },
    { t = { 1 }, bps = 1 }, { t = true, bps = json.null }, { t = 123456789012.123456, bps = 5e-324 }, { ["50%"] = 0.5 },
      { ["50%"] = 9007199254740991 },
    5, {}, { t = 1e15 + 0.3, bps = 1e-7 },
  }
  local lines = {}
  for i, row in ipairs(rows) do lines[i] = "\n  " .. json.encode(row, false) end
  local text = json.encode(rows, true)
  lu.assertEquals(text, ("[%s\n]"):format(table.concat(lines, ",")):gsub('{"bps":1,"t":%[1%]}',
    '{\n    "bps": 1,\n    "t": [1]\n  }'))
  rows[8].bps = nil -- a null member vanishes in reading
  lu.assertEquals(json.decode(text), rows)
  lu.assertErrorMsgContains("cannot express", json.encode, { { t = 1 }, { t = 0 / 0 } }, true)
  lu.assertErrorMsgContains("cannot express", json.encode, { { t = 1.5 }, { t = 1 / 0 } }, true)
end

-- An interval with a mark has a table in it, others have not. The order of keys decides what of it is seen first.
function TestJson:test_rows_after_one_of_another_kind()
  for name in ("d e f g h i j k l m n o p q r s t u v w x y z marks more"):gmatch "%a+" do
    local list = { { a = 1, b = 2 }, { a = 0.5, b = 0.25, [name] = { "x" } }, { a = 1.5, b = 2.5 }, { a = 7, b = 8 } }
    lu.assertEquals(json.decode(json.encode(list, true)), list)
  end
end

function TestJson:test_broken_text_is_an_error_not_a_raise()
  for _, text in ipairs { "", "{", "[1,", "nope", '{"a":}' } do
    local value, err = json.decode(text)
    lu.assertNil(value)
    lu.assertIsString(err)
  end
end

os.exit(lu.LuaUnit.run())
